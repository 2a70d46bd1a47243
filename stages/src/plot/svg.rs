//! An SVG writer: shapes with coordinates to two decimals, styled by classes that support light and dark mode.

use std::fmt::Write;

use hamflow_stage_api::svg::{escape, number};

/// The style sheet of all figures; a page with inline figures includes it once.
///
/// Colours are literal values in classes rather than CSS variables, which not every SVG viewer supports.
pub const STYLE: &str = "\
.hf-paper{fill:#fff}.hf-ink{fill:#1b1f24}.hf-soft{fill:#57606a}.hf-axis{stroke:#8b949e;fill:none}.hf-grid{stroke:#e3e6ea;fill:none}\
.hf-cell{fill:#f6f8fa}.hf-shade{fill:#084a94}.hf-low{fill:#000}.hf-high{fill:#fff}.hf-mark{stroke:#57606a;stroke-dasharray:3 3;fill:none}\
.hf-f0{fill:#1f5a96}.hf-f1{fill:#e08a1e}.hf-f2{fill:#9fd0b8;stroke:#3f7a5e}\
.hf-k0{fill:#332288}.hf-k1{fill:#e69f00}.hf-k2{fill:#117733}.hf-k3{fill:#cc6677}.hf-k4{fill:#111111}.hf-k5{fill:#56b4e9}.hf-k6{fill:#999933}.hf-k7{fill:#b8b8b8}\
.hf-l0{stroke:#1f5a96;fill:none}.hf-l1{stroke:#b35c00;stroke-dasharray:7 3;fill:none}\
.hf-p0{fill:#1f5a96}.hf-p1{fill:#b35c00}.hf-area{fill:#1f5a96;fill-opacity:.12}\
.hf-figure text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif;font-size:13px}\
.hf-figure .hf-small{font-size:11px}.hf-figure .hf-strong{font-weight:600}.hf-figure .hf-head{font-size:15px;font-weight:600}\
@media screen and (prefers-color-scheme:dark){\
.hf-paper{fill:#161b22}.hf-ink{fill:#e6edf3}.hf-soft{fill:#a3adb8}.hf-axis{stroke:#768390}.hf-grid{stroke:#2d343c}\
.hf-cell{fill:#1c2229}.hf-shade{fill:#4998f3}.hf-low{fill:#fff}.hf-high{fill:#000}.hf-mark{stroke:#a3adb8}\
.hf-f0{fill:#5aa2e6}.hf-f1{fill:#f0b060}.hf-f2{fill:#3f7a5e;stroke:#9fd0b8}\
.hf-k0{fill:#8f7fe8}.hf-k1{fill:#e69f00}.hf-k2{fill:#35a862}.hf-k3{fill:#e08a98}.hf-k4{fill:#f5f5f5}.hf-k5{fill:#56b4e9}.hf-k6{fill:#b5b545}.hf-k7{fill:#777777}\
.hf-l0{stroke:#6cb0f0}.hf-l1{stroke:#f0b060}.hf-p0{fill:#6cb0f0}.hf-p1{fill:#f0b060}.hf-area{fill:#6cb0f0;fill-opacity:.18}}";

/// The text anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The coordinate is the start of the text.
    Start,
    /// The coordinate is the middle of the text.
    Middle,
    /// The coordinate is the end of the text.
    End,
}

impl Anchor {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// An SVG image under construction.
#[derive(Debug, Clone)]
pub struct Svg {
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: String,
}

impl Svg {
    /// An empty image, wider than `width` if the title needs it. `title` and `description` are the accessible name
    /// and description.
    pub fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        // Titles are bold and start 16 pixels from the edge.
        let width = width.max(32.0 + text_width(title, 16.5));
        let (title, description) = (title.to_owned(), description.to_owned());
        Self { width, height, title, description, body: String::new() }
    }

    /// A filled rectangle; an `opacity` of 1 is omitted.
    pub fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64), opacity: f64) {
        let [x, y, width, height] = [x, y, width, height].map(number);
        let _ = write!(self.body, r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}""#);
        self.fill_opacity(opacity);
        self.body.push_str("/>\n");
    }

    fn fill_opacity(&mut self, opacity: f64) {
        if opacity < 1.0 {
            let _ = write!(self.body, r#" fill-opacity="{}""#, number(opacity));
        }
    }

    /// A rectangle with a literal colour, for colour bars; it is the same in light and dark mode.
    pub fn coloured_rect(&mut self, [r, g, b]: [u8; 3], (x, y): (f64, f64), (width, height): (f64, f64)) {
        let [x, y, width, height] = [x, y, width, height].map(number);
        let _ = writeln!(
            self.body,
            r##"<rect fill="#{r:02x}{g:02x}{b:02x}" x="{x}" y="{y}" width="{width}" height="{height}"/>"##
        );
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(number);
        let _ = writeln!(self.body, r#"<line class="{class}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#);
    }

    /// A polyline; points closer than a third of a pixel to the previous one are dropped.
    pub fn polyline(&mut self, class: &str, points: &[(f64, f64)], width: f64) {
        let _ = writeln!(
            self.body,
            r#"<polyline class="{class}" stroke-width="{}" stroke-linejoin="round" points="{}"/>"#,
            number(width),
            coordinates(points)
        );
    }

    /// A filled polygon; an `opacity` of 1 is omitted.
    pub fn polygon(&mut self, class: &str, points: &[(f64, f64)], opacity: f64) {
        let _ = write!(self.body, r#"<polygon class="{class}" points="{}""#, coordinates(points));
        self.fill_opacity(opacity);
        self.body.push_str("/>\n");
    }

    /// A filled dot.
    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64) {
        let [x, y, radius] = [x, y, radius].map(number);
        let _ = writeln!(self.body, r#"<circle class="{class}" cx="{x}" cy="{y}" r="{radius}"/>"#);
    }

    /// An embedded image with a tooltip.
    pub fn image(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), url: &str, name: &str) {
        let [x, y, width, height] = [x, y, width, height].map(number);
        let (url, name) = (escape(url), escape(name));
        let _ = writeln!(
            self.body,
            r#"<image x="{x}" y="{y}" width="{width}" height="{height}" href="{url}"><title>{name}</title></image>"#
        );
    }

    /// A text with its baseline at `y`.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let [x, y] = [x, y].map(number);
        let (anchor, text) = (anchor.name(), escape(text));
        let _ = writeln!(self.body, r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>"#);
    }

    /// A text rotated by `degrees` around its anchor.
    pub fn turned_text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, degrees: i32, text: &str) {
        let [x, y] = [x, y].map(number);
        let (anchor, text) = (anchor.name(), escape(text));
        let _ = writeln!(
            self.body,
            r#"<text class="{class}" text-anchor="{anchor}" transform="translate({x} {y}) rotate({degrees})">{text}</text>"#
        );
    }

    /// The image as a standalone file.
    pub fn file(&self) -> String {
        self.write("figure", &format!("<style>{STYLE}</style>\n"))
    }

    /// The image for embedding in a page that includes [`STYLE`]; `id` must be unique in the page.
    pub fn inline(&self, id: &str) -> String {
        self.write(id, "")
    }

    fn write(&self, id: &str, style: &str) -> String {
        let (id, width, height) = (escape(id), number(self.width), number(self.height));
        let (title, description, body) = (escape(&self.title), escape(&self.description), &self.body);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"hf-figure\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\n\
             <title id=\"{id}-title\">{title}</title>\n<desc id=\"{id}-desc\">{description}</desc>\n{style}\
             <rect class=\"hf-paper\" width=\"{width}\" height=\"{height}\"/>\n{body}</svg>\n"
        )
    }
}

fn coordinates(points: &[(f64, f64)]) -> String {
    let mut text = String::new();
    let mut last: Option<(f64, f64)> = None;
    for (i, &(x, y)) in points.iter().enumerate() {
        let near = last.is_some_and(|(x0, y0)| (x - x0).abs() < 0.33 && (y - y0).abs() < 0.33);
        if near && i + 1 < points.len() {
            continue;
        }
        if last.is_some() {
            text.push(' ');
        }
        let _ = write!(text, "{},{}", number(x), number(y));
        last = Some((x, y));
    }
    text
}

/// A text that is cut with an ellipsis if it is wider than `width` pixels.
pub fn shortened(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut kept: String = text.to_owned();
    while kept.pop().is_some() && text_width(&kept, size) + size > width {}
    kept + "…"
}

/// An upper estimate of the width of a text in pixels, for the widest of the fonts in [`STYLE`].
pub fn text_width(text: &str, size: f64) -> f64 {
    let ems: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '|' | '\'' | ' ' => 0.34,
            'f' | 'r' | 't' | '(' | ')' | '-' | '/' => 0.42,
            'm' | 'w' | 'M' | 'W' | '%' => 0.97,
            'A'..='Z' => 0.72,
            c if c.is_ascii() => 0.64,
            _ => 1.0,
        })
        .sum();
    ems * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shortened("short", 10.0, 40.0), "short");
        let cut = shortened("a long name of a model", 10.0, 60.0);
        assert!(cut.starts_with("a long") && cut.ends_with('…') && text_width(&cut, 10.0) <= 60.0, "{cut}");
    }

    #[test]
    fn names_are_escaped() {
        let mut svg = Svg::new(10.0, 10.0, "a<b", "\"quoted\" & 'so'");
        svg.text("hf-ink", (1.0, 2.0), Anchor::Start, "</text><script>\u{1}");
        let file = svg.file();
        assert!(file.contains("<title id=\"figure-title\">a&lt;b</title>"));
        assert!(file.contains("&quot;quoted&quot; &amp; &#39;so&#39;"));
        assert!(file.contains("&lt;/text&gt;&lt;script&gt;\u{fffd}") && !file.contains("<script>"));
    }

    #[test]
    fn an_inline_image_uses_the_style_of_the_page_and_unique_ids() {
        let svg = Svg::new(10.0, 10.0, "t", "d");
        assert!(
            !svg.inline("x-1").contains("<style>")
                && svg.inline("x-1").contains("aria-labelledby=\"x-1-title x-1-desc\"")
        );
        assert!(svg.file().contains("<style>"));
    }

    #[test]
    fn close_points_are_dropped_except_for_the_last() {
        assert_eq!(coordinates(&[(0.0, 0.0), (0.1, 0.1), (5.0, 0.0), (5.1, 0.0)]), "0,0 5,0 5.1,0");
    }
}
