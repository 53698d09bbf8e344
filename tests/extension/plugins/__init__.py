"""Extensions of ornstein as users write them: each file is a module outside the library."""
