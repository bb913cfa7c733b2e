//! Figures: several of one kind, what stands for them, and how they are written.

/// The figures of all rounds, in their order.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    pub fn of(figure: f64) -> Self {
        Self(vec![figure])
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn extend(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    pub fn values(&self) -> &[f64] {
        &self.0
    }

    pub fn median(&self) -> f64 {
        median(self.0.clone())
    }

    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    pub fn greatest(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// The greatest where greater figures are better, else the least.
    pub fn best(&self, ascending: bool) -> f64 {
        if ascending { self.greatest() } else { self.least() }
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<T: IntoIterator<Item = f64>>(figures: T) -> Self {
        Self(figures.into_iter().collect())
    }
}

/// The middle one; of an even number, the mean of the two in the middle. Of none, not a number.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => figures[count / 2],
        count => (figures[count / 2 - 1] + figures[count / 2]) / 2.0,
    }
}

/// Three digits, or all that stand before the point.
pub fn short(figure: f64) -> String {
    match figure.abs() {
        size if size >= 99.95 => format!("{figure:.0}"),
        size if size >= 9.995 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Series, median, short};

    #[test]
    fn medians() {
        assert_eq!(median(vec![5.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn the_best_depends_on_the_direction() {
        let series: Series = [2.0, 1.0, 3.0].into_iter().collect();
        assert_eq!((series.best(true), series.best(false)), (3.0, 1.0));
    }

    #[test]
    fn three_digits_are_shown() {
        assert_eq!(
            [0.123, 9.999, 12.34, 123.4, 81234.5].map(short),
            ["0.12", "10.0", "12.3", "123", "81234"]
        );
    }
}
