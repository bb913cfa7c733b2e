//! The socket device, with a driver of a few lines.
