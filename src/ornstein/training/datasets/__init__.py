"""Read the user's data: arrays, tensors, folders of pictures, .npy and .csv files."""
