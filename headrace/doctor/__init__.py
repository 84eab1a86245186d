"""What `headrace doctor` looks at. Law: a check is given what it looks at, changes nothing, and says what it found."""
