//! A case: what it is called, what it needs, who runs it, and its body.

use anyhow::Result;
use eyot_tests::engine::Engine;
use eyot_tests::package::Need;

use super::caller::Caller;
use super::setting::Setting;
use super::stage::Stage;

#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub needs: &'static [Need],
    pub callers: &'static [Caller],
    pub limit_s: u64,
    /// Engines that do not play it, and why.
    pub left_out: (&'static [Engine], &'static str),
    pub body: fn(&Stage) -> Result<()>,
}

/// Everybody: for cases whose program also runs without an island.
pub const EVERYBODY: &[Caller] = &Caller::ALL;
/// For cases that only have a meaning on an island.
pub const ISLANDERS: &[Caller] = &[Caller::Root, Caller::Ordinary, Caller::Confined];

/// A case that everybody runs, of at most a minute.
pub const fn case(name: &'static str, body: fn(&Stage) -> Result<()>) -> Case {
    Case { name, needs: &[], callers: EVERYBODY, limit_s: 60, left_out: (&[], ""), body }
}

impl Case {
    pub const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    pub const fn callers(mut self, callers: &'static [Caller]) -> Self {
        self.callers = callers;
        self
    }

    pub const fn limit_s(mut self, limit_s: u64) -> Self {
        self.limit_s = limit_s;
        self
    }

    /// These engines do not play it, for this reason.
    pub const fn not_on(mut self, engines: &'static [Engine], reason: &'static str) -> Self {
        self.left_out = (engines, reason);
        self
    }

    /// Other engines than the picoprocess do not play it, for this reason.
    pub const fn pico_only(self, reason: &'static str) -> Self {
        self.not_on(&[Engine::Kvm, Engine::Qemu], reason)
    }

    /// Who plays it by which engine.
    pub fn settings(&self) -> impl Iterator<Item = Setting> {
        let all = Setting::all().filter(|setting| self.callers.contains(&setting.caller));
        all.filter(|setting| !self.left_out.0.contains(&setting.engine))
    }
}
