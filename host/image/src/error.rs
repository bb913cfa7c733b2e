//! What can go wrong while an image is made.

use std::path::PathBuf;

/// An image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {error}")]
    File { path: PathBuf, error: std::io::Error },
    #[error("{program}: not found in {root} (PATH is {path})")]
    NoProgram { program: String, root: PathBuf, path: String },
    #[error("{path}: not an executable file")]
    NoProgramFile { path: PathBuf },
    #[error("{path}: needs {library}, which is nowhere in {root}")]
    NoLibrary { path: PathBuf, library: String, root: PathBuf },
    #[error("{path}: its links lead in a circle")]
    Circle { path: PathBuf },
    #[error("the files cannot be written as an image: {0}")]
    Tree(erofs::write::Problem),
    #[error("{0}")]
    Write(std::io::Error),
    #[error("this eyot was built without a kernel for virtual machines")]
    NoKernel,
    #[error("a raw image takes GRUB's programs of this machine: apt-get install {}", packages.join(" "))]
    NoLoader { packages: Vec<&'static str> },
    #[error("{program} failed: {what}")]
    Loader { program: &'static str, what: String },
    #[error("GRUB's first stages are of another form than version 2's")]
    LoaderForm,
    #[error("kernel and files have 4 GiB or more together, which no file of a raw disk may have")]
    TooLong,
    #[error("the start information cannot be encoded")]
    Start,
}

impl From<erofs::write::Problem> for Error {
    /// It says all itself: it has no further cause to be told of.
    fn from(problem: erofs::write::Problem) -> Self {
        Self::Tree(problem)
    }
}

/// Names the file that an error is about.
pub fn about(path: &std::path::Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::File { path: path.to_owned(), error }
}
