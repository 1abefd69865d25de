//! Two pictures of a timeline: lines for the terminal, and a small SVG. Pure.

use super::Seen;
use super::timeline::{Bin, joined};
use std::fmt::Write as _;

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Size of the SVG.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
/// Margins of its plot.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 44.0;
/// Colours of sides, in the order in which they came: blue, green, and two more.
const COLOURS: [&str; 4] = ["#3b76c4", "#3c9a5f", "#a0762c", "#7d5aa6"];
const UNNAMED: &str = "#8a8f98";

/// Worst latency over time in `columns` characters, a line that marks failures below it, and one with the first letter of who answered.
#[must_use]
pub fn line(seen: &Seen, columns: usize) -> Vec<String> {
    let bins = squeezed(&seen.timeline, columns.max(1));
    let most = most_ms(&bins);
    let worst: String = bins.iter().map(|bin| level(bin, most)).collect();
    let mut lines = vec![format!("worst  {worst}  up to {most:.1} ms")];
    if seen.asked.failed > 0 {
        lines.push(format!(
            "failed {}",
            bins.iter().map(|bin| if bin.failed > 0 { '!' } else { ' ' }).collect::<String>()
        ));
    }
    if !seen.sides.is_empty() {
        let letter = |bin: &Bin| bin.side.as_ref().and_then(|side| side.chars().next()).unwrap_or(' ');
        lines.push(format!("side   {}", bins.iter().map(letter).collect::<String>()));
    }
    lines
}

/// Neighbours joined until no more than so many are left.
fn squeezed(bins: &[Bin], columns: usize) -> Vec<Bin> {
    bins.chunks(bins.len().div_ceil(columns).max(1)).map(joined).collect()
}

fn most_ms(bins: &[Bin]) -> f64 {
    bins.iter().map(|bin| bin.worst_ms).fold(0.0, f64::max)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share between 0 and 7")]
fn level(bin: &Bin, most: f64) -> char {
    if bin.requests == 0 {
        return ' ';
    }
    let share = if most > 0.0 { (bin.worst_ms / most * 7.0).round() } else { 0.0 };
    LEVELS[(share as usize).min(7)]
}

/// The same as a picture of its own: bars of the worst latency in the colour of who answered, failures as marks above, changes of side as lines.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "some hundred bins, and lengths of a chart")]
pub fn svg(seen: &Seen) -> String {
    let bins = &seen.timeline;
    let seconds = (bins.len().max(1) as f64) * seen.bin_ms as f64 / 1000.0;
    let top_ms = rounded_up(most_ms(bins).max(1.0));
    let (plot_width, plot_height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let x = |at_ms: f64| LEFT + at_ms / (seconds * 1000.0) * plot_width;
    let y = |ms: f64| TOP + plot_height * (1.0 - ms / top_ms);
    let mut picture = String::new();
    let mut draw = |text: &str| {
        picture.push_str(text);
        picture.push('\n');
    };
    draw(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">"
    ));
    draw(&format!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"));
    draw(&format!("<text x=\"{LEFT}\" y=\"20\" font-size=\"14\" fill=\"#20242c\">{}</text>", escaped(&headline(seen))));
    draw(&legend(seen));
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = y(top_ms * share);
        draw(&format!(
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#e3e6eb\"/>",
            WIDTH - RIGHT
        ));
        draw(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#5b6270\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            number(top_ms * share)
        ));
    }
    draw(&format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#5b6270\">ms</text>",
        LEFT - 6.0,
        TOP - 12.0
    ));
    for (at, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.requests > 0) {
        let from = x(at as f64 * seen.bin_ms as f64);
        let width = (plot_width / bins.len() as f64 - 0.4).max(0.4);
        let height = (plot_height * bin.worst_ms / top_ms).max(0.8);
        let colour = colour(seen, bin.side.as_deref());
        draw(&format!(
            "<rect x=\"{from:.2}\" y=\"{:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{colour}\"/>",
            TOP + plot_height - height
        ));
        if bin.failed > 0 {
            draw(&format!(
                "<circle cx=\"{:.2}\" cy=\"{:.1}\" r=\"2.6\" fill=\"#c8322b\"/>",
                from + width / 2.0,
                TOP - 6.0
            ));
        }
    }
    for change in &seen.changes {
        let at = x(change.at_ms);
        draw(&format!(
            "<line x1=\"{at:.2}\" x2=\"{at:.2}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"#20242c\" stroke-dasharray=\"3 3\"/>",
            TOP + plot_height + 4.0
        ));
    }
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = LEFT + plot_width * share;
        draw(&format!(
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#5b6270\">{} s</text>",
            HEIGHT - 22.0,
            number(seconds * share)
        ));
    }
    draw("</svg>");
    picture
}

fn headline(seen: &Seen) -> String {
    let worst = seen.asked.worst_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    format!(
        "{} requests, {} failed, worst latency {worst}, two sides for {} ms",
        seen.asked.requests, seen.asked.failed, seen.mixed_side_ms
    )
}

/// Who has which colour.
fn legend(seen: &Seen) -> String {
    let mut text = String::new();
    let mut at = LEFT;
    let mut words: Vec<(&str, String)> =
        order(seen).into_iter().map(|side| (colour(seen, Some(side)), side.to_owned())).collect();
    if seen.unnamed > 0 {
        words.push((UNNAMED, "no side named".to_owned()));
    }
    if seen.asked.failed > 0 {
        words.push(("#c8322b", "failed".to_owned()));
    }
    for (colour, word) in words {
        // A String takes everything.
        let _ = write!(
            text,
            "<rect x=\"{at:.0}\" y=\"28\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"37\" fill=\"#20242c\">{}</text>",
            at + 14.0,
            escaped(&word)
        );
        at += 14.0 + 7.5 * f64::from(u32::try_from(word.chars().count()).unwrap_or(40)) + 18.0;
    }
    text
}

/// Sides in the order in which they answered first.
fn order(seen: &Seen) -> Vec<&str> {
    let mut sides: Vec<_> = seen.sides.iter().collect();
    sides.sort_by(|one, other| one.first_ms.total_cmp(&other.first_ms));
    sides.into_iter().map(|side| side.side.as_str()).collect()
}

fn colour(seen: &Seen, side: Option<&str>) -> &'static str {
    match side {
        Some("blue") => return COLOURS[0],
        Some("green") => return COLOURS[1],
        _ => {}
    }
    let place = side.and_then(|side| order(seen).iter().position(|known| *known == side));
    place.map_or(UNNAMED, |place| COLOURS[place % COLOURS.len()])
}

/// The next of 1, 2 and 5 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(10.0 * power)
}

fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// A side's name comes from outside.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
