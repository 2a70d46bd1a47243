//! The headers of ordinary baseline JPEGs.

/// The natural position (row × 8 + column) of each coefficient in zigzag order (ITU-T T.81, figure 5).
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// The identifier of an EXIF segment.
pub(super) const EXIF: &[u8] = b"Exif\0\0";

/// A Huffman table as stored in the file: the number of codes of each length from 1, then their symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HuffmanSpec<'a> {
    pub(super) counts: &'a [u8; 16],
    pub(super) symbols: &'a [u8],
}

/// A colour component.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Component {
    id: u8,
    /// The number of blocks per MCU, horizontally and vertically.
    pub(super) across: usize,
    pub(super) down: usize,
    quantisation: usize,
    /// The index of the DC table.
    pub(super) dc: usize,
    /// The index of the AC table.
    pub(super) ac: usize,
}

impl Component {
    /// The number of blocks per MCU.
    pub(super) fn blocks(&self) -> usize {
        self.across * self.down
    }
}

/// The headers of a file that the reduced decoder supports: baseline, 8 bits, YCbCr or grey, one scan.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    /// For grey images, only the first is used.
    components: [Component; 3],
    count: usize,
    quantisation: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<HuffmanSpec<'a>>; 4],
    pub(super) ac: [Option<HuffmanSpec<'a>>; 4],
    /// MCUs between restart markers; 0 for none.
    pub(super) restart: usize,
    /// The first EXIF block, starting at its TIFF header.
    pub(super) exif: Option<&'a [u8]>,
    /// The data after the scan header.
    pub(super) scan: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Parses the headers; `None` for unusual or corrupt files, which the full decoder handles.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut frame = Self {
            width: 0,
            height: 0,
            components: [Component::default(); 3],
            count: 0,
            quantisation: [None; 4],
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            restart: 0,
            exif: None,
            scan: &[],
        };
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
        loop {
            let [0xff, marker, high, low, ..] = *rest else { return None };
            let length = usize::from(u16::from_be_bytes([high, low]));
            let segment = rest.get(4..2 + length)?;
            rest = &rest[2 + length..];
            match marker {
                0xc0 => frame.read_frame(segment)?,
                0xc4 => frame.read_huffman(segment)?,
                0xdb => frame.read_quantisation(segment)?,
                0xe1 if segment.starts_with(EXIF) => frame.exif = frame.exif.or(Some(&segment[EXIF.len()..])),
                0xdd => frame.restart = usize::from(u16::from_be_bytes(*segment.first_chunk()?)),
                // Adobe's marker specifies RGB (0) or YCbCr (1) for three components.
                0xee if segment.starts_with(b"Adobe") => (*segment.get(11)? == 1).then_some(())?,
                0xda => {
                    frame.read_scan(segment)?;
                    frame.scan = rest;
                    return Some(frame);
                }
                0xe0..=0xef | 0xfe => {}
                _ => return None,
            }
        }
    }

    fn read_frame(&mut self, segment: &[u8]) -> Option<()> {
        let [8, height_high, height_low, width_high, width_low, count, ..] = *segment else { return None };
        self.height = usize::from(u16::from_be_bytes([height_high, height_low]));
        self.width = usize::from(u16::from_be_bytes([width_high, width_low]));
        let specs = segment.get(6..6 + usize::from(count) * 3)?;
        if self.count > 0 || !matches!(count, 1 | 3) || self.width == 0 || self.height == 0 {
            return None;
        }
        self.count = usize::from(count);
        for (component, spec) in self.components.iter_mut().zip(specs.chunks_exact(3)) {
            let (across, down) = (usize::from(spec[1] >> 4), usize::from(spec[1] & 15));
            let quantisation = usize::from(spec[2]);
            if quantisation > 3 {
                return None;
            }
            *component = Component { id: spec[0], across, down, quantisation, ..Component::default() };
        }
        // Without such a marker, RGB is identified by these component ids.
        if self.components().iter().map(|component| component.id).eq(*b"RGB") {
            return None;
        }
        let (first, others) = self.components[..self.count].split_first_mut()?;
        if others.is_empty() {
            // A single component is not interleaved: its MCUs are single blocks regardless of the sampling factors.
            (first.across, first.down) = (1, 1);
        }
        let usual = [1, 2].contains(&first.across) && [1, 2].contains(&first.down);
        (usual && others.iter().all(|other| (other.across, other.down) == (1, 1))).then_some(())
    }

    fn read_quantisation(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&which, rest)) = segment.split_first() {
            // The high nibble specifies 16 bits, which baseline files do not have.
            let (values, rest) = rest.split_first_chunk::<64>()?;
            *self.quantisation.get_mut(usize::from(which))? = Some(values.map(u16::from));
            segment = rest;
        }
        Some(())
    }

    fn read_huffman(&mut self, mut segment: &'a [u8]) -> Option<()> {
        while let Some((&which, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let total = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, rest) = rest.split_at_checked(total)?;
            let tables = match which >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return None,
            };
            *tables.get_mut(usize::from(which & 15))? = Some(HuffmanSpec { counts, symbols });
            segment = rest;
        }
        Some(())
    }

    fn read_scan(&mut self, segment: &[u8]) -> Option<()> {
        let (&count, rest) = segment.split_first()?;
        if self.count == 0 || usize::from(count) != self.count {
            return None;
        }
        let (specs, spectrum) = rest.split_at_checked(usize::from(count) * 2)?;
        for (component, spec) in self.components.iter_mut().zip(specs.chunks_exact(2)) {
            (component.dc, component.ac) = (usize::from(spec[1] >> 4), usize::from(spec[1] & 15));
            if component.id != spec[0] || component.dc > 3 || component.ac > 3 {
                return None;
            }
        }
        (spectrum == [0, 63, 0]).then_some(())
    }

    /// The components: one for grey, otherwise three.
    pub(super) fn components(&self) -> &[Component] {
        &self.components[..self.count]
    }

    /// The quantisation steps of a component, in zigzag order.
    pub(super) fn steps(&self, component: &Component) -> Option<&[u16; 64]> {
        self.quantisation[component.quantisation].as_ref()
    }
}
