//! Predictions in the submission format of the ISIC 2018 challenge, task 3.

use std::borrow::Cow;
use std::fmt::Write;

use super::rows::Row;

/// The class order of the challenge.
const ORDER: [&str; 7] = ["mel", "nv", "bcc", "akiec", "bkl", "df", "vasc"];

/// One line per image: its name, then one probability per class in the challenge's order; classes of the challenge that
/// the model does not have are never predicted. If it has others, its classes are in index order. Class names are in
/// capitals.
pub fn csv(rows: &[&Row], probabilities: &[Vec<f64>], labels: &[String]) -> String {
    let columns = columns(labels);
    let mut text = String::from("image");
    for (name, _) in &columns {
        let _ = write!(text, ",{}", quoted(&name.to_uppercase()));
    }
    text.push('\n');
    for (row, probabilities) in rows.iter().zip(probabilities) {
        text.push_str(&quoted(&row.image_id));
        for (_, class) in &columns {
            let _ = write!(text, ",{}", number(class.map_or(0.0, |class| probabilities[class])));
        }
        text.push('\n');
    }
    text
}

/// The name of each column, and the index of its class if the model has it.
fn columns(labels: &[String]) -> Vec<(&str, Option<usize>)> {
    let is_of_challenge = |label: &String| ORDER.iter().any(|known| known.eq_ignore_ascii_case(label));
    let is_distinct =
        |(index, label): (usize, &String)| !labels[..index].iter().any(|other| other.eq_ignore_ascii_case(label));
    if labels.iter().all(is_of_challenge) && labels.iter().enumerate().all(is_distinct) {
        let place = |name: &str| labels.iter().position(|label| label.eq_ignore_ascii_case(name));
        return ORDER.into_iter().map(|name| (name, place(name))).collect();
    }
    labels.iter().map(String::as_str).zip((0..).map(Some)).collect()
}

/// A number that the official scorer takes for a probability: with a point or an exponent, since it refuses a column of
/// integers, and short, since it refuses long lines.
fn number(value: f64) -> String {
    if value == 0.0 || value >= 1e-4 { format!("{value:?}") } else { format!("{value:e}") }
}

/// A CSV field, quoted if necessary (RFC 4180).
fn quoted(field: &str) -> Cow<'_, str> {
    if field.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\"")).into();
    }
    field.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn row(image_id: &str) -> Row {
        let [image_id, lesion_id, label, split] = [image_id, "l", "mel", "test"].map(str::to_owned);
        Row { image_id, lesion_id, label, class: 0, split, attributes: BTreeMap::new(), synthetic: false }
    }

    #[test]
    fn classes_are_in_the_order_of_the_challenge() {
        let labels = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"].map(str::to_owned);
        let rows = [row("ISIC_1")];
        let text = csv(&[&rows[0]], &[vec![0.0, 0.125, 0.0, 0.0, 0.25, 0.5, 0.125]], &labels);
        assert_eq!(text, "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\nISIC_1,0.25,0.5,0.125,0.0,0.0,0.0,0.125\n");
        let text = csv(&[&rows[0]], &[vec![0.0, 1.0]], &["nv".to_owned(), "Mel".to_owned()]);
        assert_eq!(text, "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\nISIC_1,1.0,0.0,0.0,0.0,0.0,0.0,0.0\n");
        let text = csv(&[&rows[0]], &[vec![0.75, 0.25]], &["nv".to_owned(), "other".to_owned()]);
        assert_eq!(text, "image,NV,OTHER\nISIC_1,0.75,0.25\n");
        let text = csv(&[&row("a,\"b")], &[vec![0.75, 0.25]], &["nv".to_owned(), "x,y".to_owned()]);
        assert_eq!(text, "image,NV,\"X,Y\"\n\"a,\"\"b\",0.75,0.25\n");
    }

    #[test]
    fn numbers_are_short_and_never_integers() {
        for (value, expected) in [(1.0, "1.0"), (0.0, "0.0"), (0.5, "0.5"), (5e-324, "5e-324"), (1.25e-7, "1.25e-7")] {
            assert_eq!(number(value), expected);
        }
        for value in [1.0 / 3.0, 1e-4, 9.999e-5, f64::MIN_POSITIVE, 2.0 / 3e10] {
            assert!(number(value).len() <= 24 && number(value).parse::<f64>() == Ok(value), "{value}");
        }
    }
}
