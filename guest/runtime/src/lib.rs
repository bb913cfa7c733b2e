//! What a guest image has instead of a C library: moves of memory, and a heap.
#![no_std]

pub mod cache;
pub mod heap;
#[cfg(feature = "intrinsic")]
mod intrinsic;
