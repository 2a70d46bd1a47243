//! The text of a file that should be CSV, and what it is if it is none.

use hamflow_stage_api::StageError;

/// Formats that are mistaken for CSV: the first bytes, what it is, and what to do.
const OTHERS: [(&[u8], &str, &str); 9] = [
    (b"\x1f\x8b", "is compressed with gzip", "decompress it with `gunzip`"),
    (b"BZh", "is compressed with bzip2", "decompress it with `bunzip2`"),
    (b"\xfd7zXZ", "is compressed with xz", "decompress it with `unxz`"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "decompress it with `unzstd`"),
    (b"PK\x03\x04", "is a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook", "save the sheet as CSV"),
    (b"%PDF", "is a PDF", "export the table as CSV"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself", "fetch it with `git lfs pull`"),
    (b"/annex/objects/", "is a pointer of git-annex, not the file itself", "fetch it with `git annex get`"),
];

/// The text of a file called `name`, without byte order mark, each line ended by a line feed.
pub(super) fn decode(name: &str, bytes: Vec<u8>) -> Result<String, StageError> {
    if name.to_lowercase().ends_with(".npz") {
        return Err(StageError::input(format!("`{name}` is an archive of NumPy arrays, such as those of MedMNIST"))
            .hint("it has no lesions, so it cannot be split without leakage; use the images and the metadata that it was made from"));
    }
    if let Some((_, what, hint)) = OTHERS.iter().find(|(start, ..)| bytes.starts_with(start)) {
        return Err(StageError::input(format!("`{name}` {what}")).hint(*hint));
    }
    let mut text = match &bytes[..] {
        [0xff, 0xfe, rest @ ..] => utf16(name, rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(name, rest, u16::from_be_bytes)?,
        _ => utf8(name, bytes)?,
    };
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    let start = text.trim_start();
    for (beginnings, what) in
        [(&["<?xml"][..], "is XML"), (&["{\\rtf"], "is a text document"), (&["{", "[{"], "is JSON")]
    {
        if beginnings.iter().any(|beginning| start.starts_with(beginning)) {
            return Err(StageError::input(format!("`{name}` {what}, not CSV")).hint("save the table as CSV"));
        }
    }
    if is_page(&text) {
        return Err(StageError::input(format!("`{name}` is a web page, not a table"))
            .hint("the address may need a login, or lead to a page about the file; download the file itself"));
    }
    if let Some(place) = text.find('\0') {
        let line = 1 + text[..place].matches('\n').count() as u64;
        return Err(StageError::input(format!("`{name}` has a NUL character in line {line}"))
            .at(name, line, 0)
            .hint("the file is damaged, or not UTF-8; save it as UTF-8"));
    }
    Ok(with_line_feeds(text))
}

fn utf8(name: &str, bytes: Vec<u8>) -> Result<String, StageError> {
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u64;
        StageError::input(format!("`{name}` is not UTF-8")).at(name, line, 0).hint("save it as UTF-8")
    })
}

/// Spreadsheets write "Unicode text" as UTF-16.
fn utf16(name: &str, bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, StageError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect();
    match text {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err(StageError::input(format!("`{name}` is neither UTF-16 nor UTF-8")).hint("save it as UTF-8")),
    }
}

fn is_page(text: &str) -> bool {
    let start = text.trim_start();
    let start = start.get(..start.len().min(14)).unwrap_or_default().to_ascii_lowercase();
    ["<!doctype html", "<html"].iter().any(|page| start.starts_with(page))
}

/// Replaces the line ends of old Macs, and those that a program has converted twice.
fn with_line_feeds(text: String) -> String {
    if text.contains("\r\r\n") {
        return text.replace("\r\r\n", "\n");
    }
    if text.contains('\r') && !text.contains('\n') {
        return text.replace('\r', "\n");
    }
    text
}
