//! Frames of what a backend answers.
