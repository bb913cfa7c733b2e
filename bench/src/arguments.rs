//! The benchmark's command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::bench::Effort;

pub struct Arguments {
    pub eyot: PathBuf,
    pub json: PathBuf,
    pub effort: Effort,
    pub list: bool,
    texts: Vec<String>,
}

impl Arguments {
    pub fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let (mut eyot, mut json) = (PathBuf::from("target/release/eyot"), PathBuf::from("target/bench.json"));
        let (mut effort, mut rounds, mut list, mut texts) = (Effort::THOROUGH, None, false, Vec::new());
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match word.as_str() {
                "--eyot" => eyot = value()?.into(),
                "--json" => json = value()?.into(),
                "--only" => texts.push(value()?),
                "--rounds" => rounds = Some(value()?.parse().context("--rounds wants a number")?),
                "--quick" => effort = Effort::QUICK,
                "--list" => list = true,
                _ => bail!("unknown argument {word}"),
            }
        }
        effort.rounds = rounds.unwrap_or(effort.rounds);
        if effort.rounds == 0 {
            bail!("--rounds wants at least 1");
        }
        Ok(Self { eyot, json, effort, list, texts })
    }

    /// Whether a row was asked for: all are, or those whose names contain one of the texts.
    pub fn wants(&self, name: &str) -> bool {
        self.texts.is_empty() || self.texts.iter().any(|text| name.contains(text))
    }
}
