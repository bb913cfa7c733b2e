//! The suite's command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use eyot_tests::engine::Engine;

use crate::cases;
use crate::suite::caller::Caller;
use crate::suite::case::Case;
use crate::suite::setting::Setting;
use crate::suite::stage::Stage;

pub enum Action {
    Suite {
        eyot: PathBuf,
    },
    List,
    /// One case, in this process; what the runner calls itself with.
    Play {
        case: &'static Case,
        stage: Stage,
        user: Option<u32>,
    },
}

pub struct Arguments {
    pub action: Action,
    texts: Vec<String>,
    callers: Vec<Caller>,
    engines: Vec<Engine>,
}

impl Arguments {
    pub fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let (mut texts, mut callers, mut engines, mut list) = (Vec::new(), Vec::new(), Vec::new(), false);
        let (mut eyot, mut played, mut user) = (PathBuf::from("target/release/eyot"), None, None);
        let (mut directory, mut programs) = (PathBuf::new(), PathBuf::new());
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match word.as_str() {
                "--case" => texts.push(value()?),
                "--caller" => {
                    let name = value()?;
                    callers.push(Caller::named(&name).with_context(|| format!("no caller is named {name}"))?);
                }
                "--engine" => {
                    let name = value()?;
                    engines.push(Engine::named(&name).with_context(|| format!("no engine is named {name}"))?);
                }
                "--list" => list = true,
                "--eyot" => eyot = value()?.into(),
                "--play" => played = Some(value()?),
                "--directory" => directory = value()?.into(),
                "--programs" => programs = value()?.into(),
                "--user" => user = Some(value()?.parse()?),
                _ => bail!("unknown argument {word}"),
            }
        }
        let action = match played {
            Some(name) => {
                let case = cases::all().find(|case| case.name == name).context("no such case")?;
                let caller = *callers.first().context("no caller")?;
                let setting = Setting { caller, engine: *engines.first().context("no engine")? };
                let stage = Stage { case: case.name, setting, programs, directory, eyot };
                Action::Play { case, stage, user }
            }
            None if list => Action::List,
            None => Action::Suite { eyot },
        };
        Ok(Self { action, texts, callers, engines })
    }

    /// The cases and settings that were asked for: all, or those whose names contain one of the texts.
    pub fn selection(&self) -> impl Iterator<Item = (&'static Case, Setting)> {
        let wanted = |setting: &Setting| {
            (self.callers.is_empty() || self.callers.contains(&setting.caller))
                && (self.engines.is_empty() || self.engines.contains(&setting.engine))
        };
        self.cases().flat_map(move |case| case.settings().filter(wanted).map(move |setting| (case, setting)))
    }

    /// The cases among them that some engines do not play.
    pub fn left_out(&self) -> impl Iterator<Item = &'static Case> {
        self.cases().filter(|case| !case.left_out.0.is_empty())
    }

    fn cases(&self) -> impl Iterator<Item = &'static Case> {
        let named =
            |case: &Case| self.texts.is_empty() || self.texts.iter().any(|text| case.name.contains(text));
        cases::all().filter(move |case| named(case))
    }
}
