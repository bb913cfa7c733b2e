//! Settings of the island's terminal, which the guest may not change itself: it has no ioctl.

use abi::request::{Reply, Request};
use abi::terminal::{Settings, When, Window};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, QueueSelector, SpecialCodeIndex,
    Termios, Winsize, tcflush, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use super::{Answer, Object, Outcome, Server, done};

/// Special characters by their place in `c_cc`.
const CHARACTERS: [SpecialCodeIndex; 17] = [
    SpecialCodeIndex::VINTR,
    SpecialCodeIndex::VQUIT,
    SpecialCodeIndex::VERASE,
    SpecialCodeIndex::VKILL,
    SpecialCodeIndex::VEOF,
    SpecialCodeIndex::VTIME,
    SpecialCodeIndex::VMIN,
    SpecialCodeIndex::VSWTC,
    SpecialCodeIndex::VSTART,
    SpecialCodeIndex::VSTOP,
    SpecialCodeIndex::VSUSP,
    SpecialCodeIndex::VEOL,
    SpecialCodeIndex::VREPRINT,
    SpecialCodeIndex::VDISCARD,
    SpecialCodeIndex::VWERASE,
    SpecialCodeIndex::VLNEXT,
    SpecialCodeIndex::VEOL2,
];

impl Server {
    pub(super) fn terminal(&mut self, request: Request) -> Outcome {
        let (Request::TerminalSettings { handle }
        | Request::SetTerminalSettings { handle, .. }
        | Request::SetTerminalWindow { handle, .. }
        | Request::FlushTerminal { handle, .. }) = request
        else {
            return Err(Errno::NOSYS);
        };
        let (Object::Terminal, Some(master)) = (self.objects.get(handle)?, &self.terminal) else {
            return Err(Errno::NOTTY);
        };
        match request {
            Request::SetTerminalSettings { settings, when, .. } => {
                let mut termios = tcgetattr(master)?;
                set(&mut termios, settings);
                done(tcsetattr(master, actions(when), &termios))
            }
            Request::SetTerminalWindow { window, .. } => done(tcsetwinsize(master, winsize(window))),
            Request::FlushTerminal { queue, .. } => {
                // Queues are named as the terminal side sees them, so that side is opened for a moment.
                let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
                done(tcflush(ioctl_tiocgptpeer(master, flags)?, selector(queue)?))
            }
            _ => {
                let (settings, window) = (settings(&tcgetattr(master)?), window(tcgetwinsize(master)?));
                Ok(Answer::Reply(Reply::Terminal { settings, window }))
            }
        }
    }
}

fn settings(termios: &Termios) -> Settings {
    let mut characters = [0; 19];
    for (place, index) in CHARACTERS.into_iter().enumerate() {
        characters[place] = termios.special_codes[index];
    }
    Settings {
        input: termios.input_modes.bits(),
        output: termios.output_modes.bits(),
        control: termios.control_modes.bits(),
        local: termios.local_modes.bits(),
        line: 0,
        characters,
    }
}

/// The line discipline and the speed are not the guest's to choose.
fn set(termios: &mut Termios, settings: Settings) {
    termios.input_modes = InputModes::from_bits_retain(settings.input);
    termios.output_modes = OutputModes::from_bits_retain(settings.output);
    termios.control_modes = ControlModes::from_bits_retain(settings.control);
    termios.local_modes = LocalModes::from_bits_retain(settings.local);
    for (place, index) in CHARACTERS.into_iter().enumerate() {
        termios.special_codes[index] = settings.characters[place];
    }
}

fn actions(when: When) -> OptionalActions {
    match when {
        When::Now => OptionalActions::Now,
        When::Drained => OptionalActions::Drain,
        When::Flushed => OptionalActions::Flush,
    }
}

/// TCIFLUSH, TCOFLUSH, TCIOFLUSH.
fn selector(queue: u32) -> Result<QueueSelector, Errno> {
    match queue {
        0 => Ok(QueueSelector::IFlush),
        1 => Ok(QueueSelector::OFlush),
        2 => Ok(QueueSelector::IOFlush),
        _ => Err(Errno::INVAL),
    }
}

/// A window's size, as it is told to the guest.
pub fn window(size: Winsize) -> Window {
    Window { rows: size.ws_row, columns: size.ws_col, width: size.ws_xpixel, height: size.ws_ypixel }
}

fn winsize(window: Window) -> Winsize {
    Winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: window.width, ws_ypixel: window.height }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_way_there_and_back() {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let mut termios = tcgetattr(&master).unwrap();
        let mut wanted = settings(&termios);
        wanted.local ^= LocalModes::ECHO.bits();
        wanted.characters[6] = 9;
        set(&mut termios, wanted);
        tcsetattr(&master, OptionalActions::Now, &termios).unwrap();
        assert_eq!(settings(&tcgetattr(&master).unwrap()), wanted);
    }
}
