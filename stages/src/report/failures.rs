//! Individual predictions: the most confident wrong ones, and a sortable and filterable table of all.

use maud::{Markup, PreEscaped, html};
use serde_json::json;

use super::layout::scroll;
use super::sources::{Prediction, Sources};
use crate::plot::grouped;

/// Renders the most confident wrong predictions of the first split; `None` without predictions.
pub fn section(sources: &Sources, count: usize) -> Option<Markup> {
    let (split, _) = *sources.splits().first()?;
    if !sources.predictions.iter().any(|row| row.split == split) {
        return None;
    }
    let mut wrong: Vec<&Prediction> =
        sources.predictions.iter().filter(|row| row.split == split && !row.correct()).collect();
    wrong.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then_with(|| a.image_id.cmp(&b.image_id)));
    let caption = format!("The most confident wrong predictions, {split}");
    let table = html! {
        table {
            caption { (caption) }
            thead {
                tr {
                    @for name in ["image", "lesion", "true class", "predicted class"] { th scope="col" { (name) } }
                    th.number scope="col" { "confidence" }
                }
            }
            tbody {
                @for row in wrong.iter().take(count) {
                    tr {
                        th scope="row" { (row.image_id) }
                        td { (row.lesion_id) }
                        td { (row.label) }
                        td { (row.predicted) }
                        td.number { (format!("{:.3}", row.confidence)) }
                    }
                }
            }
        }
    };
    Some(html! {
        @if wrong.is_empty() {
            p { "Every prediction of the " (split) " split is right." }
        } @else {
            p {
                (grouped(wrong.len() as u64)) " predictions of the " (split) " split are wrong. Where the model was most certain \
                 of a wrong class, the image, its label or the model deserves a look."
            }
            (scroll(&caption, &table))
        }
    })
}

/// Renders all predictions as data and the controls of the explorer; the script fills the table.
pub fn explorer(sources: &Sources) -> Option<Markup> {
    if sources.predictions.is_empty() {
        return None;
    }
    let classes: Vec<String> = sources.classes().into_iter().map(|(label, _)| label).collect();
    let splits: Vec<&str> = sources.splits().iter().map(|(name, _)| *name).collect();
    Some(html! {
        noscript { p { "The table of all predictions needs scripts; the file of predictions holds the same rows." } }
        div #explorer hidden {
            div.controls role="search" aria-label="Filter the predictions" {
                label { "Image or lesion" input #filter-text type="search" autocomplete="off" spellcheck="false"; }
                (choice("filter-split", "Split", &splits))
                (choice("filter-label", "True class", &classes))
                (choice("filter-predicted", "Predicted class", &classes))
                label { "Prediction" select #filter-correct { option value="" { "all" } option value="wrong" { "wrong" } option value="right" { "right" } } }
            }
            p #explorer-count role="status" {}
            (scroll("All predictions", &explorer_table()))
            div.pages {
                button #page-previous type="button" { "Previous" }
                span #page-number {}
                button #page-next type="button" { "Next" }
            }
        }
        script #explorer-data type="application/json" { (PreEscaped(data(&sources.predictions))) }
    })
}

fn choice<T: AsRef<str>>(id: &str, title: &str, values: &[T]) -> Markup {
    html! {
        label {
            (title)
            select id=(id) { option value="" { "all" } @for value in values { option value=(value.as_ref()) { (value.as_ref()) } } }
        }
    }
}

fn explorer_table() -> Markup {
    let columns = ["image", "lesion", "split", "true class", "predicted class", "confidence"];
    html! {
        table #explorer-table {
            caption { "All predictions (choose a heading to sort by it)" }
            thead {
                tr {
                    @for (i, name) in columns.into_iter().enumerate() {
                        th scope="col" .number[i == 5] { button type="button" data-column=(i) { (name) } }
                    }
                }
            }
            tbody {}
        }
    }
}

/// The rows as compact JSON that cannot terminate the enclosing script element.
fn data(predictions: &[Prediction]) -> String {
    let rows: Vec<_> = predictions
        .iter()
        .map(|row| {
            let confidence = format!("{:.4}", row.confidence).parse::<f64>().unwrap_or(0.0);
            json!([row.image_id, row.lesion_id, row.split, row.label, row.predicted, confidence])
        })
        .collect();
    json!(rows).to_string().replace('<', "\\u003c").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_terminate_the_script() {
        let text = "</script><!--".to_owned();
        let row = Prediction {
            image_id: text.clone(),
            lesion_id: String::new(),
            split: "test".to_owned(),
            label: "nv".to_owned(),
            predicted: "mel".to_owned(),
            confidence: 0.123456,
            malignancy: None,
        };
        let data = data(&[row]);
        assert!(!data.contains('<') && data.contains("0.1235"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&data).unwrap()[0][0], text);
    }
}
