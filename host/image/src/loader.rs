//! The boot loader of raw images: GRUB, made by this machine's own programs.
//!
//! Nothing of it comes with us: its parts are read where Debian's packages put them, when an image is made.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use crate::Error;
use crate::error::about;

const PROGRAM: &str = "grub-mkimage";
/// What GRUB needs in any case: to read its configuration, the partition, and the kernel.
const MODULES: [&str; 6] = ["normal", "multiboot2", "part_msdos", "fat", "test", "serial"];
/// Where GRUB looks for its configuration: on the first partition of the disk it was started from.
const PREFIX: &str = "(,msdos1)/grub";

const BIOS: &str = "/usr/lib/grub/i386-pc";
const FIRMWARE: &str = "/usr/lib/grub/x86_64-efi";

/// What is needed: a file, and the package that has it.
const NEEDS: [(&str, &str); 3] = [
    ("/usr/bin/grub-mkimage", "grub-common"),
    ("/usr/lib/grub/i386-pc/boot.img", "grub-pc-bin"),
    ("/usr/lib/grub/x86_64-efi/kernel.img", "grub-efi-amd64-bin"),
];

/// The loader's parts.
pub struct Loader {
    /// The disk's first sector.
    pub(crate) first: Vec<u8>,
    /// What that loads, from the second sector on.
    pub(crate) core: Vec<u8>,
    /// The application for UEFI.
    pub(crate) application: Vec<u8>,
}

impl Loader {
    /// Makes the loader with what is installed here.
    pub fn make() -> Result<Self, Error> {
        let missing = NEEDS.iter().filter(|(path, _)| !Path::new(path).exists());
        let packages: Vec<_> = missing.map(|(_, package)| *package).collect();
        if !packages.is_empty() {
            return Err(Error::NoLoader { packages });
        }
        let first = Path::new(BIOS).join("boot.img");
        Ok(Self {
            first: fs::read(&first).map_err(about(&first))?,
            core: image("i386-pc", BIOS, &["biosdisk"])?,
            application: image("x86_64-efi", FIRMWARE, &[])?,
        })
    }

    /// GRUB's configuration: the kernel with its command line, and complaints where they are seen.
    pub(crate) fn configuration(words: &str) -> String {
        format!(
            "# The kernel's command line follows its name: ip=192.0.2.5/24,192.0.2.1,192.0.2.53\n\
             if [ \"$grub_platform\" = pc ]; then\n  \
               if serial --unit=0 --speed=115200; then terminal_output console serial; fi\n\
             fi\n\
             multiboot2 /{} {words}\n\
             boot\n",
            crate::disk::KERNEL
        )
    }
}

/// One of GRUB's images, for a format of its own.
fn image(format: &str, directory: &str, modules: &[&str]) -> Result<Vec<u8>, Error> {
    let failed = |what| Error::Loader { program: PROGRAM, what };
    let mut command = Command::new(PROGRAM);
    command.args(["--format", format, "--directory", directory, "--prefix", PREFIX]);
    command.args(MODULES).args(modules);
    // It insists on a file that it can synchronise.
    let mut made = nameless_file().map_err(|error| failed(error.to_string()))?;
    let output = made.try_clone().and_then(|file| command.stdout(file).output());
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let mut bytes = Vec::new();
    let read = made.rewind().and_then(|()| made.read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| failed(error.to_string()))
}

/// A file that is gone with its last descriptor.
fn nameless_file() -> std::io::Result<File> {
    let path = std::env::temp_dir().join(format!("eyot-loader-{}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}
