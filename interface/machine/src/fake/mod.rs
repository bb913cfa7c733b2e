//! A machine for tests: seeded scheduling, scripted programs, injected faults.
