//! Connections: found by their flow, driven one by one.

pub mod arrival;
pub mod connection;
pub mod engine;
pub mod handshake;
pub mod outgoing;
pub mod program;
pub mod rest;
pub mod segment;
pub mod traffic;
pub mod wake;
