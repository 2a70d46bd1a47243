//! Groups of rows that must stay on one side.

use std::collections::{BTreeMap, HashMap};

use hamflow_stage_api::Digest;

/// Rows that stay together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The least of the group's names in alphabetical order, which does not depend on the order of the rows.
    pub name: String,
    /// How many rows it has of each class that it has, by the number of the class.
    pub classes: BTreeMap<usize, usize>,
}

impl Group {
    /// How many rows it has.
    pub fn size(&self) -> usize {
        self.classes.values().sum()
    }
}

/// All rows of a table in groups.
#[derive(Debug)]
pub struct Groups {
    /// The groups, sorted by name.
    pub groups: Vec<Group>,
    /// The names of the classes, sorted.
    pub classes: Vec<String>,
    /// The group of each row.
    pub of_row: Vec<usize>,
    /// How many groups became part of another because they share an image.
    pub joined: usize,
}

impl Groups {
    /// Puts rows of one name together, and then names that share an image.
    pub fn new(names: &[String], classes: &[String], digests: Option<&[Digest]>) -> Self {
        let mut distinct: Vec<&str> = names.iter().map(String::as_str).collect();
        distinct.sort_unstable();
        distinct.dedup();
        // Only looked up, never walked.
        let numbers: HashMap<&str, usize> = distinct.iter().copied().zip(0..).collect();
        let number_of_row: Vec<usize> = names.iter().map(|name| numbers[name.as_str()]).collect();

        let mut parents = Parents((0..distinct.len()).collect());
        let mut first_with: HashMap<Digest, usize> = HashMap::new();
        for (digest, &number) in digests.unwrap_or_default().iter().zip(&number_of_row) {
            let first = *first_with.entry(*digest).or_insert(number);
            parents.join(first, number);
        }

        let mut class_names: Vec<String> = classes.to_vec();
        class_names.sort_unstable();
        class_names.dedup();
        let class_numbers: HashMap<&str, usize> = class_names.iter().map(String::as_str).zip(0..).collect();

        // A root is the least of its numbers, so groups come out sorted by their least name.
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of_number = vec![0; distinct.len()];
        for (number, name) in distinct.iter().enumerate() {
            let root = parents.root(number);
            group_of_number[number] = if root == number {
                groups.push(Group { name: (*name).to_owned(), classes: BTreeMap::new() });
                groups.len() - 1
            } else {
                group_of_number[root]
            };
        }
        let of_row: Vec<usize> = number_of_row.iter().map(|&number| group_of_number[number]).collect();
        for (&group, class) in of_row.iter().zip(classes) {
            *groups[group].classes.entry(class_numbers[class.as_str()]).or_insert(0) += 1;
        }
        let joined = distinct.len() - groups.len();
        drop(class_numbers);
        Self { groups, classes: class_names, of_row, joined }
    }

    /// Hands what is known of each group to its rows.
    pub fn per_row<T: Copy>(&self, per_group: &[T]) -> Vec<T> {
        self.of_row.iter().map(|&group| per_group[group]).collect()
    }
}

/// A union-find forest in which a root is the least of its tree.
struct Parents(Vec<usize>);

impl Parents {
    fn root(&mut self, mut number: usize) -> usize {
        while self.0[number] != number {
            self.0[number] = self.0[self.0[number]];
            number = self.0[number];
        }
        number
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &str) -> Vec<String> {
        words.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_that_share_an_image_become_one_group() {
        let (names, classes) = (texts("c a b d a c"), texts("x x y x x x"));
        let digests: Vec<Digest> = ["1", "2", "3", "4", "3", "1"].iter().map(|d| Digest::of(d.as_bytes())).collect();
        let groups = Groups::new(&names, &classes, Some(&digests));
        let named: Vec<&str> = groups.groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(named, ["a", "c", "d"]);
        assert_eq!(groups.of_row, [1, 0, 0, 2, 0, 1]);
        assert_eq!(groups.joined, 1);
        assert_eq!(groups.groups[0].classes, BTreeMap::from([(0, 2), (1, 1)]));
    }

    #[test]
    fn chains_of_shared_images_join_too() {
        let names = texts("a b b c c d");
        let digests: Vec<Digest> = ["1", "1", "2", "2", "3", "3"].iter().map(|d| Digest::of(d.as_bytes())).collect();
        let groups = Groups::new(&names, &texts("x x x x x x"), Some(&digests));
        assert_eq!(groups.groups.len(), 1);
        assert_eq!(groups.groups[0].size(), 6);
    }
}
