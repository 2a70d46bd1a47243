//! Embeds figures in the page.

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use super::layout::scroll;
use super::sources::FigureFile;
use crate::plot::{Drawing, Figure, FigureError, Svg, caption};

/// Draws data as a figure; `id` must be unique in the page.
pub fn drawn<T: Drawing>(data: &T, id: &str, label: &str) -> Markup {
    inline(&data.draw(), T::PLOT, id, label)
}

/// Embeds a figure from a folder.
///
/// It is drawn again from its data, so that it uses the page's colours and unique ids. An SVG file without usable
/// data is embedded as an image, in which no scripts run and no resources are loaded.
pub fn from_file(file: &FigureFile, number: usize) -> Markup {
    let redrawn = file.data.as_deref().map(|data| {
        let figure = Figure::from_json(data)?;
        Ok((figure.draw()?, figure.plot))
    });
    match redrawn {
        Some(Ok((svg, plot))) => inline(&svg, &plot, &format!("figure-{number}"), &file.name),
        Some(Err(FigureError { .. })) | None => html! {
            figure {
                (scroll(&file.name, &html! { img alt=(file.name) src=(data_url(&file.svg)); }))
                figcaption { (file.name) }
            }
        },
    }
}

fn inline(svg: &Svg, plot: &str, id: &str, label: &str) -> Markup {
    html! { figure { (scroll(label, &PreEscaped(svg.inline(id)))) figcaption { (caption(plot)) } } }
}

fn data_url(svg: &[u8]) -> String {
    let mut url = String::from("data:image/svg+xml,");
    for &byte in svg {
        if byte.is_ascii_alphanumeric() || b"-_.~/:=; ".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_figure_is_embedded_as_an_image() {
        let svg = b"<svg><script>alert(1)</script></svg>".to_vec();
        let page = from_file(&FigureFile { name: "x".to_owned(), svg, data: None }, 1).into_string();
        assert!(
            page.contains("src=\"data:image/svg+xml,%3Csvg%3E%3Cscript%3Ealert%281%29%3C/script%3E")
                && !page.contains("<script")
        );
    }
}
