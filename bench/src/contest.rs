//! A contest: the sides of a row, measured in turn.

use std::process::Command;

use anyhow::{Context, Result};
use eyot_tests::island::{Place, Run};
use eyot_tests::outcome::run;
use eyot_tests::package::{KVM, QEMU};

use crate::bench::Bench;
use crate::figure::Series;
use crate::launch::LIMIT;

/// Produces one figure, each time anew.
pub type Measure<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

pub struct Contest<'a> {
    /// Rows that judge eyot's figure alone have none.
    native: Option<Measure<'a>>,
    eyot: Measure<'a>,
    /// Others, for comparison only.
    beside: Vec<Beside<Measure<'a>>>,
    /// What else a reader should know.
    notes: Vec<String>,
}

/// Something that stands beside a row, and is not judged.
pub struct Beside<T> {
    pub what: String,
    /// What it is compared with, if that is not the row's native side.
    pub native: Option<T>,
    pub figure: T,
}

/// What a contest yielded.
pub struct Race {
    pub native: Option<Series>,
    pub eyot: Series,
    pub beside: Vec<Beside<Series>>,
    pub notes: Vec<String>,
}

impl<'a> Contest<'a> {
    /// The same way of measuring on both sides.
    pub fn of(bench: &Bench, measure: impl Fn(Place) -> Result<Measure<'a>>) -> Result<Self> {
        Ok(Self::between(measure(Place::Native)?, measure(bench.island())?))
    }

    pub fn between(native: Measure<'a>, eyot: Measure<'a>) -> Self {
        Self { native: Some(native), eyot, beside: Vec::new(), notes: Vec::new() }
    }

    /// eyot against nobody.
    pub fn alone(eyot: Measure<'a>) -> Self {
        Self { native: None, eyot, beside: Vec::new(), notes: Vec::new() }
    }

    /// A program that measures itself and prints one number.
    pub fn of_program(bench: &'a Bench, program: &Run) -> Result<Self> {
        Self::of(bench, |place| Ok(prints(bench, program, place)))
    }

    pub fn beside(mut self, what: String, figure: Measure<'a>) -> Self {
        self.beside.push(Beside { what, native: None, figure });
        self
    }

    /// Something else about the same two sides, measured after both.
    pub fn also(mut self, what: &str, native: Measure<'a>, figure: Measure<'a>) -> Self {
        self.beside.push(Beside { what: what.to_owned(), native: Some(native), figure });
        self
    }

    /// The same on an island that is a virtual machine, where there is KVM.
    pub fn by_kvm(self, bench: &Bench, measure: impl FnOnce(Place) -> Result<Measure<'a>>) -> Result<Self> {
        if !KVM.is_met() {
            return Ok(self.noting(format!("eyot by KVM: no {}", KVM.path)));
        }
        Ok(self.beside("eyot by KVM".to_owned(), measure(bench.machine())?))
    }

    /// The same on islands that are virtual machines, by each engine that is here.
    pub fn by_machines(self, bench: &Bench, measure: impl Fn(Place) -> Result<Measure<'a>>) -> Result<Self> {
        let contest = self.by_kvm(bench, &measure)?;
        if !QEMU.is_met() {
            return Ok(contest.noting(format!("eyot by QEMU: no {}", QEMU.path)));
        }
        Ok(contest.beside("eyot by QEMU".to_owned(), measure(bench.emulated())?))
    }

    pub fn noting(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }

    /// One round that does not count, then as many as wanted, each beginning with another side.
    pub fn race(mut self, rounds: usize) -> Result<Race> {
        let mut race = self.round(false)?;
        race.clear();
        for number in 0..rounds {
            race.add(self.round(number % 2 == 1)?);
        }
        race.notes = self.notes;
        Ok(race)
    }

    fn round(&mut self, eyot_first: bool) -> Result<Race> {
        let early = if eyot_first { Some(self.eyot_figure()?) } else { None };
        let native = self.native.as_mut().map(|measure| measure().context("native")).transpose()?;
        let eyot = match early {
            Some(figure) => figure,
            None => self.eyot_figure()?,
        };
        let mut beside = Vec::new();
        for Beside { what, native, figure } in &mut self.beside {
            let native = native.as_mut().map(|measure| measure().context("native")).transpose();
            let native = native.with_context(|| what.clone())?.map(Series::of);
            let figure = Series::of(figure().with_context(|| what.clone())?);
            beside.push(Beside { what: what.clone(), native, figure });
        }
        Ok(Race { native: native.map(Series::of), eyot: Series::of(eyot), beside, notes: Vec::new() })
    }

    fn eyot_figure(&mut self) -> Result<f64> {
        (self.eyot)().context("eyot")
    }
}

impl Race {
    fn all(&mut self) -> impl Iterator<Item = &mut Series> {
        let beside =
            self.beside.iter_mut().flat_map(|beside| beside.native.iter_mut().chain([&mut beside.figure]));
        self.native.iter_mut().chain([&mut self.eyot]).chain(beside)
    }

    fn clear(&mut self) {
        self.all().for_each(Series::clear);
    }

    fn add(&mut self, mut round: Self) {
        self.all().zip(round.all()).for_each(|(all, one)| all.extend(one));
    }
}

/// Runs a program that measures itself.
pub fn prints<'a>(bench: &'a Bench, program: &Run, place: Place) -> Measure<'a> {
    let program = program.clone();
    Box::new(move || printed(program.command(&place, bench.directory())))
}

/// Runs a command to its end and reads the number it prints.
pub fn printed(command: Command) -> Result<f64> {
    number(run(command, b"", LIMIT)?.success()?.text().trim())
}

pub fn number(text: &str) -> Result<f64> {
    text.parse().with_context(|| format!("“{text}” is not a number"))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::{Contest, Measure};

    fn recorder(log: &Rc<RefCell<String>>, letter: char, mut figure: f64) -> Measure<'static> {
        let log = log.clone();
        Box::new(move || {
            log.borrow_mut().push(letter);
            figure += 1.0;
            Ok(figure)
        })
    }

    #[test]
    fn sides_take_turns_and_the_first_round_does_not_count() {
        let log = Rc::new(RefCell::new(String::new()));
        let contest = Contest::between(recorder(&log, 'n', 0.0), recorder(&log, 'e', 10.0));
        let race = contest.beside("other".into(), recorder(&log, 'o', 20.0)).race(2);
        let race = race.expect("nothing fails");
        assert_eq!(*log.borrow(), "neoneoeno");
        assert_eq!(race.native.expect("there is a native side").values(), [2.0, 3.0]);
        assert_eq!(race.eyot.values(), [12.0, 13.0]);
        assert_eq!(race.beside[0].figure.values(), [22.0, 23.0]);
    }

    #[test]
    fn a_side_that_fails_is_named() {
        let contest = Contest::alone(Box::new(|| anyhow::bail!("broken")));
        let error = contest.race(1).err().expect("it fails");
        assert_eq!(format!("{error:#}"), "eyot: broken");
    }
}
