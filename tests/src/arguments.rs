//! The suite's command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cases;
use crate::suite::caller::Caller;
use crate::suite::case::Case;
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
}

impl Arguments {
    pub fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let (mut texts, mut callers, mut list) = (Vec::new(), Vec::new(), false);
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
                let stage = Stage { case: case.name, caller, programs, directory, eyot };
                Action::Play { case, stage, user }
            }
            None if list => Action::List,
            None => Action::Suite { eyot },
        };
        Ok(Self { action, texts, callers })
    }

    /// The cases and callers that were asked for: all, or those whose names contain one of the texts.
    pub fn selection(&self) -> impl Iterator<Item = (&'static Case, Caller)> {
        let named =
            |case: &Case| self.texts.is_empty() || self.texts.iter().any(|text| case.name.contains(text));
        let called = |caller: &Caller| self.callers.is_empty() || self.callers.contains(caller);
        let cases = cases::all().filter(move |case| named(case));
        cases.flat_map(move |case| {
            let callers = case.callers.iter().copied();
            callers.filter(called).map(move |caller| (case, caller))
        })
    }
}
