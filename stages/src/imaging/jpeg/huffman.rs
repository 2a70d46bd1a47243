//! Reads the coefficients of blocks out of Huffman codes, and passes over those that nobody needs two at a time.

use super::frame::HuffmanSpec;

/// How many bits one look into a table takes.
const LOOK: u32 = 11;

/// How many looks there are.
const LOOKS: usize = 1 << LOOK;

/// The bits of a scan, without the zeros that are stuffed behind bytes of ones.
///
/// A buffer of 64 bits is filled by one load of 8 bytes at a time; behind the end come zeros.
#[derive(Clone, Copy)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next byte to be loaded.
    position: usize,
    buffer: u64,
    /// How many bits of the buffer count.
    count: u32,
}

/// Zeros that must follow the bits of a scan.
pub(super) const PADDING: usize = 16;

impl<'a> BitReader<'a> {
    /// Starts at the first of `bytes`, of which the last [`PADDING`] are zeros that do not count.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, buffer: 0, count: 0 }
    }

    /// Makes sure of at least 56 bits.
    #[inline(always)]
    fn fill(&mut self) {
        // Behind the end come zeros, which `is_at_end` tells.
        if let Some(next) = self.bytes.get(self.position..self.position + 8) {
            let next = u64::from_be_bytes(next.try_into().expect("eight bytes were taken"));
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

    /// The byte that the next bit lies in; the end for bits that are not there.
    pub(super) fn position(&self) -> usize {
        (self.position - self.count as usize / 8).min(self.bytes.len() - PADDING)
    }

    /// Whether no bit was taken that is not there, and less than a byte is left.
    pub(super) fn is_at_end(&self) -> bool {
        let taken = self.position * 8 - self.count as usize;
        let there = (self.bytes.len() - PADDING) * 8;
        taken <= there && there - taken < 8
    }
}

/// One look into a table: what the next bits begin with. Packed so that a look is one load.
///
/// | bits | of a decoding table | of a passing table |
/// | --- | --- | --- |
/// | 0–7 | bits to skip | bits to skip |
/// | 8–15 | coefficients passed, this one included; [`END`] for the end of the block | the same, of all codes together |
/// | 16–23 | how long the code is | 1 where the block ends behind them |
/// | 24–31 | how many bits the magnitude has behind it | 0 |
type Entry = u32;

/// More than any block has.
const END: u32 = 64;

/// A code: its length and its symbol. No code has the length 0.
#[derive(Clone, Copy, Default)]
struct Code {
    length: u8,
    symbol: u8,
}

impl Code {
    /// How many coefficients are 0 before this one.
    fn run(self) -> u32 {
        u32::from(self.symbol >> 4)
    }

    /// How many bits the magnitude has.
    fn bits(self) -> u32 {
        u32::from(self.symbol & 15)
    }

    /// The code with its magnitude.
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

/// A Huffman table made for decoding.
pub(super) struct Table {
    first_coefficients: bool,
    /// The code that each look begins with, while the table is made.
    codes: Box<[Code; LOOKS]>,
    /// The code at the beginning of the next bits; 0 where it is longer than a look or is no code.
    decode: Box<[Entry; LOOKS]>,
    /// As many codes as a look holds, for coefficients that nobody needs; 0 for first coefficients.
    pass: Box<[Entry; LOOKS]>,
    /// By length: the first code beyond those of this length, aligned to 16 bits, and where its symbols are.
    limits: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            first_coefficients: false,
            codes: Box::new([Code::default(); LOOKS]),
            decode: Box::new([0; LOOKS]),
            pass: Box::new([0; LOOKS]),
            limits: [0; 17],
            offsets: [0; 17],
            symbols: Vec::new(),
        }
    }
}

impl Table {
    /// Makes it in the memory of the one before; none where the counts are no prefix code, or a magnitude has more bits than 8-bit
    /// images need.
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
            if u32::from(length) <= LOOK {
                let width = 1 << (LOOK - u32::from(length));
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

    fn passing(codes: &[Code], pass: &mut [Entry; LOOKS]) {
        for (look, pass) in pass.iter_mut().enumerate() {
            let (mut skip, mut passed, mut ends) = (0, 0, 0);
            while ends == 0 && skip < LOOK {
                let code = codes[(look << skip) & (LOOKS - 1)];
                // Bits beyond the look are zeros here, so behind the first a code counts only if all of it lies within.
                if code.length == 0 || (skip > 0 && skip + code.total() > LOOK) {
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

    /// The entry of the code at the beginning of `next`, however long it is; none where the bits are no code.
    #[inline(always)]
    fn look(&self, next: u64) -> Option<Entry> {
        let found = self.decode[(next >> (64 - LOOK)) as usize];
        if found != 0 { Some(found) } else { self.long(next) }
    }

    #[cold]
    #[inline(never)]
    fn long(&self, next: u64) -> Option<Entry> {
        let next = (next >> 48) as u32;
        let length = (LOOK + 1..=16).find(|length| next < self.limits[*length as usize])?;
        let index = (next >> (16 - length)) as i32 + self.offsets[length as usize];
        let symbol = *self.symbols.get(usize::try_from(index).ok()?)?;
        Some(Code { length: length as u8, symbol }.entry(self.first_coefficients))
    }
}

/// The value of the code at the beginning of `next`: a magnitude whose leading 0 means negative (ITU-T T.81, F.2.2.1).
#[inline(always)]
fn value(next: u64, found: Entry) -> i32 {
    let (length, bits) = (found >> 16 & 0xff, found >> 24);
    let magnitude = next << length;
    let is_positive = (magnitude as i64 >> 63) as i32;
    // Two shifts, because a magnitude of no bits would be one of 64.
    (magnitude >> 1 >> (63 - bits)) as i32 - (!is_positive & ((1 << bits) - 1))
}

/// Reads the difference of a block's first coefficient from the one before; none where the bits are no code.
#[inline(always)]
pub(super) fn first_difference(reader: &mut BitReader<'_>, table: &Table) -> Option<i32> {
    reader.fill();
    let next = reader.buffer;
    let found = table.look(next)?;
    reader.skip(found & 0xff);
    Some(value(next, found))
}

/// Reads a block's other coefficients: those up to the index `last` of the file's order go to `keep`, the rest is passed over.
///
/// None where the bits are no codes or hold more coefficients than a block has.
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
        // Two codes for each fill: none takes more than 26 bits.
        for _ in 0..2 {
            let next = reader.buffer;
            let found = table.look(next)?;
            reader.skip(found & 0xff);
            let passed = (found >> 8 & 0xff) as usize;
            index += passed;
            // The end of the block passes more than a block has.
            if index > 64 {
                return (passed == END as usize).then_some(());
            }
            // A run of 16 zeros has the value 0, which may be kept.
            keep(index - 1, value(next, found));
            if index > last {
                break 'kept;
            }
        }
    }
    while index < 64 {
        reader.fill();
        // Two looks for each fill: none takes more than 26 bits.
        for _ in 0..2 {
            let found = table.pass[(reader.buffer >> (64 - LOOK)) as usize];
            let behind = index + (found >> 8 & 0xff) as usize;
            if found != 0 && behind < 64 {
                reader.skip(found & 0xff);
                index = behind;
                if found >> 16 != 0 {
                    return Some(());
                }
                continue;
            }
            // The last codes of a block, one by one: what follows them belongs to the next block.
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
