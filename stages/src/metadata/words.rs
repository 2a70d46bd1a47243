//! A column whose values come from a small vocabulary.

use crate::fast_map::FastMap;

/// The words of a column: each distinct one once.
#[derive(Debug, Default)]
pub struct Words {
    words: Vec<String>,
    /// The word of each row; `None` if it is not known.
    of_row: Vec<Option<u32>>,
    numbers: FastMap<String, u32>,
}

impl Words {
    /// Appends a row whose text becomes a word by `in_table`.
    pub fn push(&mut self, text: Option<&str>, in_table: impl Fn(&str) -> String) {
        let number = text.map(|text| match self.numbers.get(text) {
            Some(number) => *number,
            None => self.number(text, in_table(text)),
        });
        self.of_row.push(number);
    }

    fn number(&mut self, text: &str, word: String) -> u32 {
        let found = self.words.iter().position(|known| *known == word);
        let number = found.unwrap_or_else(|| {
            self.words.push(word);
            self.words.len() - 1
        }) as u32;
        self.numbers.insert(text.to_owned(), number);
        number
    }

    /// The word of each row.
    pub fn values(&self) -> impl Iterator<Item = Option<&str>> {
        self.of_row.iter().map(|number| number.map(|number| &self.words[number as usize][..]))
    }

    /// Each word with the number of its rows.
    pub fn occurring(&self) -> impl Iterator<Item = (&str, usize)> {
        let mut counts = vec![0; self.words.len()];
        self.of_row.iter().flatten().for_each(|number| counts[*number as usize] += 1);
        self.words.iter().map(String::as_str).zip(counts)
    }

    /// The number of rows without a word.
    pub fn nulls(&self) -> usize {
        self.of_row.iter().filter(|number| number.is_none()).count()
    }
}
