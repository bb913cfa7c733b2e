//! What every machine must do, as checks that run on each of them.
