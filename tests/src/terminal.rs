//! A terminal without a window: runs a program in a pseudo-terminal, keeps its screen, and responds
//! to the queries of full-screen programs. Knows no program.

use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pty_process::Size;
use pty_process::blocking::{self, Pty};
use rustix::process::{Pid, Signal, kill_process_group};
use vt100::{Callbacks, Parser, Screen};

use crate::wait::poll;

/// A key that is not a character.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// Return.
    Enter,
    /// Escape.
    Esc,
    /// Control and C.
    CtrlC,
    /// Control and D.
    CtrlD,
    /// Control and U: empties an input field.
    CtrlU,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// Tabulator.
    Tab,
    /// Backspace.
    Backspace,
}

/// A program in a pseudo-terminal; it is killed when dropped.
pub struct Terminal {
    child: Child,
    pty: Arc<Pty>,
    parser: Arc<Mutex<Parser<Answers>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts a program on a new terminal of this size.
    pub fn spawn(mut command: Command, rows: u16, cols: u16) -> Self {
        command.env("TERM", "xterm-256color").env("COLORTERM", "truecolor");
        let (pty, pts) = blocking::open().expect("a free pseudo-terminal");
        pty.resize(Size::new(rows, cols)).expect("our own terminal");
        let name = format!("{command:?}");
        let child = blocking::Command::from(command).spawn(pts);
        let child = child.unwrap_or_else(|error| panic!("{name}: {error}"));
        let [rows, cols] = [rows, cols].map(|side| NonZero::new(side).expect("a screen"));
        let parser = Parser::new_with_callbacks(rows, cols, 0, Answers::default());
        let (pty, parser) = (Arc::new(pty), Arc::new(Mutex::new(parser)));
        let (input, screen) = (Arc::clone(&pty), Arc::clone(&parser));
        let reader = thread::spawn(move || read_on(&input, &screen));
        Self { child, pty, parser, reader }
    }

    /// Returns the text on the screen, without trailing blanks.
    pub fn screen(&self) -> String {
        self.parser().screen().contents()
    }

    /// Waits until a text is on the screen, which may break its lines.
    #[track_caller]
    pub fn wait_for_text(&self, text: &str, deadline: Duration) {
        let wanted = without_blanks(text);
        let found =
            poll(deadline, || without_blanks(&self.screen()).contains(&wanted).then_some(()));
        assert!(
            found.is_some(),
            "no {text:?} after {deadline:?} on the screen:\n{}",
            self.screen()
        );
    }

    /// Types a text as it is, without Enter.
    pub fn type_text(&self, text: &str) {
        // A program that has just ended takes no input; the next wait of the test fails then.
        let _ = (&*self.pty).write_all(text.as_bytes());
    }

    /// Presses a key.
    pub fn key(&self, key: Key) {
        self.type_text(match key {
            Key::Enter => "\r",
            Key::Esc => "\x1b",
            Key::CtrlC => "\x03",
            Key::CtrlD => "\x04",
            Key::CtrlU => "\x15",
            Key::Up => "\x1b[A",
            Key::Down => "\x1b[B",
            Key::Tab => "\t",
            Key::Backspace => "\x7f",
        });
    }

    /// Returns the process id of the program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True if the program has ended.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    /// Waits until the program ends.
    #[track_caller]
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let status = poll(deadline, || self.child.try_wait().expect("our own child"));
        status
            .unwrap_or_else(|| panic!("no end after {deadline:?}; its screen:\n{}", self.screen()))
    }

    /// Waits until all output is on the screen. The program must leave no process behind.
    #[track_caller]
    pub fn wait_for_all(&self, deadline: Duration) {
        let all = poll(deadline, || self.reader.is_finished().then_some(()));
        assert!(all.is_some(), "a process still has the terminal open:\n{}", self.screen());
    }

    fn parser(&self) -> MutexGuard<'_, Parser<Answers>> {
        self.parser.lock().expect("a parser that never panics")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The whole group: the program may have been started by a launcher.
        if !self.has_exited() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Draws the output on the screen until no process has the terminal open any more.
fn read_on(mut pty: &Pty, parser: &Mutex<Parser<Answers>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = pty.read(&mut buffer) {
        let answers = {
            let mut parser = parser.lock().expect("a parser that never panics");
            parser.process(&buffer[..length]);
            std::mem::take(&mut parser.callbacks_mut().pending)
        };
        let _ = pty.write_all(&answers);
    }
}

/// Responses to the program's queries that are not written yet.
#[derive(Default)]
struct Answers {
    pending: Vec<u8>,
}

impl Callbacks for Answers {
    fn unhandled_csi(
        &mut self,
        screen: &mut Screen,
        i1: Option<u8>,
        i2: Option<u8>,
        params: &[&[u16]],
        c: char,
    ) {
        let first = params.first().and_then(|param| param.first()).copied().unwrap_or(0);
        let (row, column) = screen.cursor_position();
        let answer = match (i1, i2, c, first) {
            (None, None, 'n', 5) => "\x1b[0n".to_owned(),
            (None, None, 'n', 6) => format!("\x1b[{};{}R", row + 1, column + 1),
            // A VT220 with colours. Programs ask this last, so that a missing response to an
            // earlier query counts as a no.
            (None, None, 'c', 0) => "\x1b[?62;22c".to_owned(),
            (Some(b'>'), None, 'c', 0) => "\x1b[>1;10;0c".to_owned(),
            (Some(b'?'), Some(b'$'), 'p', mode) => format!("\x1b[?{mode};0$y"),
            _ => return,
        };
        self.pending.extend(answer.into_bytes());
    }

    fn unhandled_osc(&mut self, _: &mut Screen, params: &[&[u8]]) {
        let answer = match params {
            [b"10", b"?"] => "\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
            [b"11", b"?"] => "\x1b]11;rgb:0000/0000/0000\x1b\\",
            _ => return,
        };
        self.pending.extend(answer.bytes());
    }
}

fn without_blanks(text: &str) -> String {
    text.split_whitespace().collect()
}
