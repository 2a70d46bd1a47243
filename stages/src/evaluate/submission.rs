//! Predictions in the submission format of the ISIC 2018 challenge, task 3.

use std::borrow::Cow;
use std::fmt::Write;

use super::rows::Row;

/// The class order of the challenge.
const ORDER: [&str; 7] = ["mel", "nv", "bcc", "akiec", "bkl", "df", "vasc"];

/// One line per image: its name, then one probability per class in the challenge's order. If the classes are not
/// those of the challenge, they are in index order. Class names are in capitals.
pub fn csv(rows: &[&Row], probabilities: &[Vec<f64>], labels: &[String]) -> String {
    let place = |label: &str| labels.iter().position(|found| found == label);
    let order: Option<Vec<usize>> = ORDER.iter().map(|label| place(label)).collect();
    let order = order.filter(|order| order.len() == labels.len()).unwrap_or_else(|| (0..labels.len()).collect());
    let mut text = String::from("image");
    for class in &order {
        let _ = write!(text, ",{}", quoted(&labels[*class].to_uppercase()));
    }
    text.push('\n');
    for (row, probabilities) in rows.iter().zip(probabilities) {
        text.push_str(&quoted(&row.image_id));
        for class in &order {
            let _ = write!(text, ",{}", probabilities[*class]);
        }
        text.push('\n');
    }
    text
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
        assert_eq!(text, "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\nISIC_1,0.25,0.5,0.125,0,0,0,0.125\n");
        let text = csv(&[&rows[0]], &[vec![0.75, 0.25]], &["nv".to_owned(), "other".to_owned()]);
        assert_eq!(text, "image,NV,OTHER\nISIC_1,0.75,0.25\n");
        let text = csv(&[&row("a,\"b")], &[vec![0.75, 0.25]], &["nv".to_owned(), "x,y".to_owned()]);
        assert_eq!(text, "image,NV,\"X,Y\"\n\"a,\"\"b\",0.75,0.25\n");
    }
}
