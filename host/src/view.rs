//! The live view in a terminal.
//!
//! What is shown is a pure function of a `model::Model` (`draw::draw`); this file only feeds it: news of the machine, keys, and
//! the passing of time. Guest text is made harmless where it enters the screen.

mod draw;
mod graph;
mod history;
mod model;
mod panels;
mod tables;
mod theme;

use std::io;
use std::mem::ManuallyDrop;
use std::time::Duration;

use crossterm::cursor::Show;
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::execute;
use crossterm::terminal::{LeaveAlternateScreen, disable_raw_mode};
use ratatui::DefaultTerminal;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::vm::Vm;
use model::{Model, Reaction};
use theme::Theme;

/// The least time between two drawings: a guest that floods the host with samples does not make the terminal flicker.
const FRAME: Duration = Duration::from_millis(50);

/// Shows the machine until the user quits. The terminal is as it was when this future ends or is dropped, and after a panic.
///
/// # Errors
/// Where the terminal cannot be used.
pub async fn run(name: &str, vm: &Vm) -> io::Result<()> {
    let mut screen = Screen::take()?;
    let theme = Theme::of(std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()));
    let mut model = Model::new(name);
    let mut vm = vm.clone();
    model.learn(vm.status());
    let mut events = terminal_events();
    // Ages ("12s ago") grow without any news.
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        model.now = Instant::now();
        screen.0.draw(|frame| draw::draw(frame, &mut model, &theme))?;
        sleep_until(model.now + FRAME).await;
        tokio::select! {
            status = vm.changed() => model.learn(status.map_err(io::Error::other)?),
            event = events.recv() => match event {
                Some(event) => if let Reaction::Quit = react(&mut model, &event?) { return Ok(()) },
                None => return Ok(()),
            },
            _ = second.tick() => {}
        }
        // Keys that came meanwhile belong to the same drawing.
        while let Ok(event) = events.try_recv() {
            if let Reaction::Quit = react(&mut model, &event?) {
                return Ok(());
            }
        }
    }
}

/// The terminal while the view has it. [`Terminal`](ratatui::Terminal) itself is never dropped: where the terminal is gone, its end would
/// complain on a standard error that is gone too, and panic.
struct Screen(ManuallyDrop<DefaultTerminal>);

impl Screen {
    fn take() -> io::Result<Self> {
        // Also restores the terminal after a panic.
        Ok(Self(ManuallyDrop::new(ratatui::try_init()?)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // As much of it as still works.
        disable_raw_mode().ok();
        execute!(io::stdout(), LeaveAlternateScreen, Show).ok();
    }
}

/// Keys and resizes, from a thread that reads the terminal; it ends with the process.
fn terminal_events() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let over = event.is_err();
            if sender.blocking_send(event).is_err() || over {
                return;
            }
        }
    });
    receiver
}

fn react(model: &mut Model, event: &Event) -> Reaction {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => model.press(*key),
        _ => Reaction::Stay,
    }
}

impl Model {
    /// What a key does.
    fn press(&mut self, key: KeyEvent) -> Reaction {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if matches!(key.code, KeyCode::Char('c' | 'd')) { Reaction::Quit } else { Reaction::Stay };
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Reaction::Quit,
            KeyCode::Char(c) => self.letter(c),
            KeyCode::Tab | KeyCode::Right => self.turn_tab(1),
            KeyCode::BackTab | KeyCode::Left => self.turn_tab(-1),
            KeyCode::Up => self.scroll_by(-1),
            KeyCode::Down => self.scroll_by(1),
            KeyCode::PageUp => self.scroll_by(-10),
            KeyCode::PageDown => self.scroll_by(10),
            KeyCode::Home => self.scroll_by(isize::MIN),
            KeyCode::End => self.scroll_by(isize::MAX),
            _ => {}
        }
        Reaction::Stay
    }
}

#[cfg(test)]
mod tests;
