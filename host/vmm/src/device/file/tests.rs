//! The file device, with a driver of a few lines.
