//! Small charts out of block and braille characters.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

use super::history::Series;

/// The dots of a braille character from the bottom up, left and right column (Unicode block U+2800).
const DOTS: [[u32; 4]; 2] = [[0x40, 0x04, 0x02, 0x01], [0x80, 0x20, 0x10, 0x08]];

/// Draws the newest part of a series as a filled area, two values a character and four steps a character's height. `top` is the
/// value of full height; `style` colours a row by the share that it stands for.
pub fn area(buffer: &mut Buffer, at: Rect, series: &Series, top: f64, style: impl Fn(f64) -> Style) {
    let columns = usize::from(at.width) * 2;
    let steps = f64::from(at.height) * 4.0;
    // From the right: the newest value stands at the edge.
    for (place, value) in series.last(columns).rev().enumerate() {
        let share = if top > 0.0 { (value / top).clamp(0.0, 1.0) } else { 0.0 };
        // A line along the bottom shows since when there are values.
        let height = ((share * steps).round() as u16).max(1);
        let x = at.right() - 1 - (place / 2) as u16;
        let dots = DOTS[usize::from(place % 2 == 0)];
        for row in 0..at.height {
            let filled = usize::from(height.saturating_sub(row * 4).min(4));
            if filled > 0 {
                let level = 100.0 * f64::from(row + 1) / f64::from(at.height);
                add_dots(buffer, x, at.bottom() - 1 - row, dots[..filled].iter().sum(), style(level));
            }
        }
    }
}

fn add_dots(buffer: &mut Buffer, x: u16, y: u16, dots: u32, style: Style) {
    let Some(cell) = buffer.cell_mut((x, y)) else { return };
    let before = cell.symbol().chars().next().map_or(0, u32::from);
    let before = if (0x2800..0x2900).contains(&before) { before } else { 0x2800 };
    if let Some(symbol) = char::from_u32(before | dots) {
        cell.set_char(symbol).set_style(style);
    }
}

/// A horizontal bar of this width, filled to a share in eighths of a character.
pub fn bar(percent: f64, width: usize, full: Style, empty: Style) -> [Span<'static>; 2] {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (percent.clamp(0.0, 100.0) / 100.0 * width as f64 * 8.0).round() as usize;
    let part = EIGHTHS[eighths % 8];
    let rest = width - eighths / 8 - usize::from(!part.is_empty());
    [Span::styled("█".repeat(eighths / 8) + part, full), Span::styled("·".repeat(rest), empty)]
}
