"""How clinicians judge answers: the form they fill in and what follows from it."""
