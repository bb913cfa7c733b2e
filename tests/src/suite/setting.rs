//! Who plays a case, and what its islands run on.
//!
//! Every caller plays by picoprocess. Other engines need a device that only root may open on a machine as it
//! is installed, and do not depend on the caller otherwise: root alone plays by them.

use eyot_tests::engine::Engine;

use super::caller::Caller;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub caller: Caller,
    /// Without a meaning where no island is.
    pub engine: Engine,
}

impl Setting {
    /// All there are, by picoprocess first.
    pub fn all() -> impl Iterator<Item = Self> {
        let by = |engine| Caller::ALL.into_iter().map(move |caller| Self { caller, engine });
        Engine::ALL
            .into_iter()
            .flat_map(by)
            .filter(|one| one.engine == Engine::Pico || one.caller == Caller::Root)
    }

    /// What lists and directories call it: engines other than the picoprocess are named.
    pub fn name(self) -> String {
        match self.engine {
            Engine::Pico => self.caller.name().to_string(),
            engine => format!("{}-{}", self.caller.name(), engine.name()),
        }
    }
}
