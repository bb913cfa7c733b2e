//! What is shown while a suite runs: on a terminal one line that is written over, elsewhere a line for each
//! case that differs.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Mutex;

pub struct Progress {
    total: usize,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: usize,
    differ: usize,
    /// What runs now.
    running: Vec<String>,
}

impl Progress {
    pub fn new(total: usize) -> Self {
        Self { total, terminal: stderr().is_terminal(), state: Mutex::default() }
    }

    pub fn begin(&self, case: &str) {
        let mut state = self.state();
        state.running.push(case.to_string());
        self.show(&state);
    }

    /// A case is done, with what is to be said of it if it differs.
    pub fn end(&self, case: &str, differences: &[String]) {
        let mut state = self.state();
        state.running.retain(|running| running != case);
        state.done += 1;
        state.differ += differences.len();
        if !self.terminal {
            differences.iter().for_each(|line| eprintln!("[{}/{}] {line}", state.done, self.total));
        }
        self.show(&state);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn show(&self, state: &State) {
        if self.terminal {
            let State { done, differ, running } = state;
            let line = format!("{done}/{} done, {differ} differ: {}", self.total, running.join(" "));
            let line: String = line.chars().take(100).collect();
            eprint!("\r\x1b[K{line}");
            let _ = stderr().flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
