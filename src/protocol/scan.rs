//! Finding line ends.
