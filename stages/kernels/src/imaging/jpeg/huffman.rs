//! Huffman decoding of coefficients. Unneeded coefficients are skipped two at a time.

use super::frame::HuffmanSpec;

/// The number of bits per table lookup.
const LOOKUP_BITS: u32 = 11;

/// The number of table entries.
const TABLE_SIZE: usize = 1 << LOOKUP_BITS;

/// Reads the bits of a scan from which byte stuffing has been removed.
///
/// A 64-bit buffer is refilled by loading 8 bytes at a time; after the end, it reads zeros.
#[derive(Clone, Copy)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next byte to load.
    position: usize,
    buffer: u64,
    /// The number of valid bits in the buffer.
    count: u32,
}

/// Number of zero bytes that must follow the bits of a scan.
pub(super) const PADDING: usize = 16;

impl<'a> BitReader<'a> {
    /// Starts at the beginning of `bytes`, of which the last [`PADDING`] bytes are padding.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, buffer: 0, count: 0 }
    }

    /// Refills the buffer to at least 56 bits.
    #[inline(always)]
    fn fill(&mut self) {
        // After the end, this reads zeros; `is_at_end` detects that.
        if let Some(next) = self.bytes.get(self.position..self.position + 8) {
            let next = u64::from_be_bytes(next.try_into().expect("the slice has eight bytes"));
            self.buffer |= next >> self.count;
        }
        self.position += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
    }

    #[inline(always)]
    fn skip(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// The position of the byte with the next bit; the end if all bits were read.
    pub(super) fn position(&self) -> usize {
        (self.position - self.count as usize / 8).min(self.bytes.len() - PADDING)
    }

    /// Whether no bit beyond the end was read, and less than a byte is left.
    pub(super) fn is_at_end(&self) -> bool {
        let taken = self.position * 8 - self.count as usize;
        let there = (self.bytes.len() - PADDING) * 8;
        taken <= there && there - taken < 8
    }
}

/// A table entry: the meaning of the next bits. Packed so that a lookup is a single load.
///
/// | bits | in a decoding table | in a skipping table |
/// | --- | --- | --- |
/// | 0–7 | bits to skip | bits to skip |
/// | 8–15 | coefficients consumed, including this one; [`END`] for the end of the block | the same, for all codes
/// together |
/// | 16–23 | length of the code | 1 if the block ends after them |
/// | 24–31 | number of magnitude bits that follow | 0 |
type Entry = u32;

/// More coefficients than a block has.
const END: u32 = 64;

/// A code with its length and symbol. Length 0 means no code.
#[derive(Clone, Copy, Default)]
struct Code {
    length: u8,
    symbol: u8,
}

impl Code {
    /// The number of zero coefficients before this one.
    fn run(self) -> u32 {
        u32::from(self.symbol >> 4)
    }

    /// The number of magnitude bits.
    fn bits(self) -> u32 {
        u32::from(self.symbol & 15)
    }

    /// The number of bits of the code and its magnitude.
    fn total(self) -> u32 {
        u32::from(self.length) + self.bits()
    }

    fn entry(self, first_coefficient: bool) -> Entry {
        let passed = match (first_coefficient, self.run(), self.bits()) {
            (true, ..) => 1,
            (false, 15, 0) => 16,
            (false, _, 0) => END,
            (false, run, _) => run + 1,
        };
        self.total() | passed << 8 | u32::from(self.length) << 16 | self.bits() << 24
    }
}

/// A Huffman table prepared for decoding.
pub(super) struct Table {
    first_coefficients: bool,
    /// The first code of each lookup; only used while the table is built.
    codes: Box<[Code; TABLE_SIZE]>,
    /// The first code of each lookup; 0 if it is longer than the lookup or invalid.
    decode: Box<[Entry; TABLE_SIZE]>,
    /// All codes within a lookup, to skip coefficients; 0 for DC tables.
    pass: Box<[Entry; TABLE_SIZE]>,
    /// By length: the first code after those of this length, aligned to 16 bits, and the index of its symbols.
    limits: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            first_coefficients: false,
            codes: Box::new([Code::default(); TABLE_SIZE]),
            decode: Box::new([0; TABLE_SIZE]),
            pass: Box::new([0; TABLE_SIZE]),
            limits: [0; 17],
            offsets: [0; 17],
            symbols: Vec::new(),
        }
    }
}

impl Table {
    /// Builds the table, reusing its memory. `None` if the counts are not a prefix code, or a magnitude has more bits
    /// than 8-bit images need.
    pub(super) fn make(&mut self, spec: &HuffmanSpec<'_>, first_coefficients: bool) -> Option<()> {
        let too_large = |symbol: &u8| if first_coefficients { *symbol > 11 } else { symbol & 15 > 10 };
        if spec.symbols.iter().any(too_large) {
            return None;
        }
        let Self { first_coefficients: of_first, codes, decode, pass, limits, offsets, symbols } = self;
        *of_first = first_coefficients;
        codes.fill(Code::default());
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u8 {
            let count = u32::from(spec.counts[usize::from(length) - 1]);
            offsets[usize::from(length)] = index as i32 - code as i32;
            if u32::from(length) <= LOOKUP_BITS {
                let width = 1 << (LOOKUP_BITS - u32::from(length));
                for (i, symbol) in (code..code + count).zip(&spec.symbols[index..]) {
                    let start = i as usize * width;
                    codes.get_mut(start..start + width)?.fill(Code { length, symbol: *symbol });
                }
            }
            code += count;
            index += count as usize;
            if code > 1 << length {
                return None;
            }
            limits[usize::from(length)] = code << (16 - length);
            code <<= 1;
        }
        for (code, entry) in codes.iter().zip(decode.iter_mut()) {
            *entry = if code.length > 0 { code.entry(first_coefficients) } else { 0 };
        }
        if first_coefficients {
            pass.fill(0);
        } else {
            Self::passing(&codes[..], pass);
        }
        symbols.clear();
        symbols.extend_from_slice(spec.symbols);
        Some(())
    }

    fn passing(codes: &[Code], pass: &mut [Entry; TABLE_SIZE]) {
        for (look, pass) in pass.iter_mut().enumerate() {
            let (mut skip, mut passed, mut ends) = (0, 0, 0);
            while ends == 0 && skip < LOOKUP_BITS {
                let code = codes[(look << skip) & (TABLE_SIZE - 1)];
                // Bits after the lookup are zero here, so a further code only counts if it is completely within the lookup.
                if code.length == 0 || (skip > 0 && skip + code.total() > LOOKUP_BITS) {
                    break;
                }
                skip += code.total();
                match (code.run(), code.bits()) {
                    (15, 0) => passed += 16,
                    (_, 0) => ends = 1,
                    (run, _) => passed += run + 1,
                }
            }
            *pass = skip | passed << 8 | ends << 16;
        }
    }

    /// The entry of the first code in `next`, regardless of its length; `None` for invalid bits.
    #[inline(always)]
    fn look(&self, next: u64) -> Option<Entry> {
        let found = self.decode[(next >> (64 - LOOKUP_BITS)) as usize];
        if found != 0 { Some(found) } else { self.long(next) }
    }

    #[cold]
    #[inline(never)]
    fn long(&self, next: u64) -> Option<Entry> {
        let next = (next >> 48) as u32;
        let length = (LOOKUP_BITS + 1..=16).find(|length| next < self.limits[*length as usize])?;
        let index = (next >> (16 - length)) as i32 + self.offsets[length as usize];
        let symbol = *self.symbols.get(usize::try_from(index).ok()?)?;
        Some(Code { length: length as u8, symbol }.entry(self.first_coefficients))
    }
}

/// The value of the first code in `next`: a magnitude whose leading 0 bit means negative (ITU-T T.81, F.2.2.1).
#[inline(always)]
fn value(next: u64, found: Entry) -> i32 {
    let (length, bits) = (found >> 16 & 0xff, found >> 24);
    let magnitude = next << length;
    let is_positive = (magnitude as i64 >> 63) as i32;
    // Two shifts, because a magnitude of zero bits would need a shift by 64.
    (magnitude >> 1 >> (63 - bits)) as i32 - (!is_positive & ((1 << bits) - 1))
}

/// Reads the DC difference of a block; `None` for invalid bits.
#[inline(always)]
pub(super) fn first_difference(reader: &mut BitReader<'_>, table: &Table) -> Option<i32> {
    reader.fill();
    let next = reader.buffer;
    let found = table.look(next)?;
    reader.skip(found & 0xff);
    Some(value(next, found))
}

/// Reads the AC coefficients of a block: those up to zigzag index `last` are passed to `keep`, the rest is skipped.
///
/// `None` for invalid bits or too many coefficients.
#[inline(always)]
pub(super) fn other_coefficients(
    reader: &mut BitReader<'_>,
    table: &Table,
    last: usize,
    mut keep: impl FnMut(usize, i32),
) -> Option<()> {
    let mut index = 1;
    'kept: while index <= last {
        reader.fill();
        // Two codes per refill: each has at most 26 bits.
        for _ in 0..2 {
            let next = reader.buffer;
            let found = table.look(next)?;
            reader.skip(found & 0xff);
            let passed = (found >> 8 & 0xff) as usize;
            index += passed;
            // The end of the block consumes more coefficients than a block has.
            if index > 64 {
                return (passed == END as usize).then_some(());
            }
            // A run of 16 zeros has the value 0, which is harmless to keep.
            keep(index - 1, value(next, found));
            if index > last {
                break 'kept;
            }
        }
    }
    while index < 64 {
        reader.fill();
        // Two lookups per refill: each has at most 26 bits.
        for _ in 0..2 {
            let found = table.pass[(reader.buffer >> (64 - LOOKUP_BITS)) as usize];
            let behind = index + (found >> 8 & 0xff) as usize;
            if found != 0 && behind < 64 {
                reader.skip(found & 0xff);
                index = behind;
                if found >> 16 != 0 {
                    return Some(());
                }
                continue;
            }
            // The last codes of a block are read one by one, because the following bits belong to the next block.
            let found = table.look(reader.buffer)?;
            reader.skip(found & 0xff);
            let passed = found >> 8 & 0xff;
            if passed == END {
                return Some(());
            }
            index += passed as usize;
            if index >= 64 {
                break;
            }
        }
    }
    (index == 64).then_some(())
}
