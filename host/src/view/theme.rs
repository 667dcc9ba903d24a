use ratatui::style::{Color, Modifier, Style};

use crate::vm::VmState;

/// The view's colours, out of the 256 that terminals know; or none, for `NO_COLOR`.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    plain: bool,
}

impl Theme {
    /// With or without colours.
    pub const fn of(plain: bool) -> Self {
        Self { plain }
    }

    fn color(self, index: u8) -> Style {
        if self.plain { Style::new() } else { Style::new().fg(Color::Indexed(index)) }
    }

    /// Frames and what stands back.
    pub fn dim(self) -> Style {
        if self.plain { Style::new().add_modifier(Modifier::DIM) } else { self.color(243) }
    }

    /// Panel titles.
    pub fn title(self) -> Style {
        self.color(252).add_modifier(Modifier::BOLD)
    }

    /// Names of figures.
    pub fn label(self) -> Style {
        self.color(248)
    }

    /// Figures.
    pub fn value(self) -> Style {
        self.color(255)
    }

    /// Keys in the help line, chosen tabs.
    pub fn accent(self) -> Style {
        self.color(117).add_modifier(Modifier::BOLD)
    }

    /// A column's heading.
    pub fn heading(self) -> Style {
        self.color(110).add_modifier(Modifier::BOLD)
    }

    /// Something that should be looked at.
    pub fn warning(self) -> Style {
        self.color(214).add_modifier(Modifier::BOLD)
    }

    /// What comes in: reads, received bytes.
    pub fn incoming(self) -> Style {
        self.color(79)
    }

    /// What goes out: writes, sent bytes.
    pub fn outgoing(self) -> Style {
        self.color(176)
    }

    /// A share of a whole, from green over yellow to red.
    pub fn load(self, percent: f64) -> Style {
        const RAMP: [u8; 10] = [71, 72, 78, 114, 150, 186, 222, 215, 209, 203];
        self.color(RAMP[((percent / 10.0) as usize).min(RAMP.len() - 1)])
    }

    /// A machine's state.
    pub fn state(self, state: VmState) -> Style {
        let style = match state {
            VmState::Ready => self.color(78),
            VmState::Booting => self.color(222),
            VmState::Stale => self.color(214),
            VmState::Absent => self.color(203),
        };
        style.add_modifier(Modifier::BOLD)
    }
}
