//! Writes SVG: shapes at coordinates with two decimals, styled by classes that know light and dark.

use std::fmt::Write;

/// The style of every figure; a page that holds figures inside itself takes it once.
///
/// Colours are plain values in classes rather than variables, because not every viewer of SVG files knows variables.
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

/// Where a text's coordinate lies in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// At its start.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
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

/// A picture in the making.
#[derive(Debug, Clone)]
pub struct Svg {
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: String,
}

impl Svg {
    /// An empty picture, wider than `width` where the heading needs it; `title` and `description` are what a screen reader
    /// says of it.
    pub fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        // Headings are bold, and stand 16 pixels from the edge.
        let width = width.max(32.0 + text_width(title, 16.5));
        let (title, description) = (title.to_owned(), description.to_owned());
        Self { width, height, title, description, body: String::new() }
    }

    /// A filled rectangle; `opacity` of 1 is left out.
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

    /// A rectangle of a colour of its own, for scales of colours; the page's light or dark does not change it.
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

    /// A line through points; points closer than a third of a pixel to the one before are left out.
    pub fn polyline(&mut self, class: &str, points: &[(f64, f64)], width: f64) {
        let _ = writeln!(
            self.body,
            r#"<polyline class="{class}" stroke-width="{}" stroke-linejoin="round" points="{}"/>"#,
            number(width),
            coordinates(points)
        );
    }

    /// A filled area within points; `opacity` of 1 is left out.
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

    /// A picture inside the picture, with a name to point at.
    pub fn image(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), url: &str, name: &str) {
        let [x, y, width, height] = [x, y, width, height].map(number);
        let (url, name) = (escape(url), escape(name));
        let _ = writeln!(
            self.body,
            r#"<image x="{x}" y="{y}" width="{width}" height="{height}" href="{url}"><title>{name}</title></image>"#
        );
    }

    /// A text whose baseline is at `y`.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let [x, y] = [x, y].map(number);
        let (anchor, text) = (anchor.name(), escape(text));
        let _ = writeln!(self.body, r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>"#);
    }

    /// A text turned by `degrees` around its anchor.
    pub fn turned_text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, degrees: i32, text: &str) {
        let [x, y] = [x, y].map(number);
        let (anchor, text) = (anchor.name(), escape(text));
        let _ = writeln!(
            self.body,
            r#"<text class="{class}" text-anchor="{anchor}" transform="translate({x} {y}) rotate({degrees})">{text}</text>"#
        );
    }

    /// The picture as a file of its own.
    pub fn file(&self) -> String {
        self.write("figure", &format!("<style>{STYLE}</style>\n"))
    }

    /// The picture inside a page that has [`STYLE`]; `id` must be the page's only one of that name.
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

/// Two decimals at most, without zeros at the end and without a negative zero.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
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

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML 1.0 has no way to write the other control characters.
            c if c < ' ' && !matches!(c, '\t' | '\n' | '\r') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// About how wide a text is, in pixels: rather too wide than too narrow, after the widest of the fonts in [`STYLE`].
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
    fn numbers_are_short() {
        assert_eq!([1.0, 0.125, -0.001, 10.0, 100.5].map(number), ["1", "0.12", "0", "10", "100.5"]);
    }

    #[test]
    fn names_cannot_break_out() {
        let mut svg = Svg::new(10.0, 10.0, "a<b", "\"quoted\" & 'so'");
        svg.text("hf-ink", (1.0, 2.0), Anchor::Start, "</text><script>\u{1}");
        let file = svg.file();
        assert!(file.contains("<title id=\"figure-title\">a&lt;b</title>"));
        assert!(file.contains("&quot;quoted&quot; &amp; &#39;so&#39;"));
        assert!(file.contains("&lt;/text&gt;&lt;script&gt;\u{fffd}") && !file.contains("<script>"));
    }

    #[test]
    fn a_picture_inside_a_page_takes_the_pages_style_and_its_own_ids() {
        let svg = Svg::new(10.0, 10.0, "t", "d");
        assert!(
            !svg.inline("x-1").contains("<style>")
                && svg.inline("x-1").contains("aria-labelledby=\"x-1-title x-1-desc\"")
        );
        assert!(svg.file().contains("<style>"));
    }

    #[test]
    fn points_too_close_to_see_are_left_out_but_never_the_last() {
        assert_eq!(coordinates(&[(0.0, 0.0), (0.1, 0.1), (5.0, 0.0), (5.1, 0.0)]), "0,0 5,0 5.1,0");
    }
}
