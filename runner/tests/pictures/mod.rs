//! Pictures that are larger than they look.

use std::io::Read;

/// A PNG whose lines are all zeros, of any form, also interlaced; with `palette`, one colour.
pub fn flat_png(
    size: [u32; 2],
    color: png::ColorType,
    depth: png::BitDepth,
    interlaced: bool,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut info = png::Info::with_size(size[0], size[1]);
    (info.color_type, info.bit_depth, info.interlaced) = (color, depth, interlaced);
    if color == png::ColorType::Indexed {
        info.palette = Some(vec![7, 8, 9].into());
    }
    let encoder = png::Encoder::with_info(&mut bytes, info).unwrap();
    let mut writer = encoder.write_header().unwrap();
    let passes: &[[u32; 4]] = match interlaced {
        // Start and step, in columns and rows (PNG, 8.2).
        true => &[
            [0, 0, 8, 8],
            [4, 0, 8, 8],
            [0, 4, 4, 8],
            [2, 0, 4, 4],
            [0, 2, 2, 4],
            [1, 0, 2, 2],
            [0, 1, 1, 2],
        ],
        false => &[[0, 0, 1, 1]],
    };
    let bits = color.samples() as u64 * depth as u64;
    let raw: u64 = passes
        .iter()
        .map(|[x, y, dx, dy]| {
            [size[0].saturating_sub(*x).div_ceil(*dx), size[1].saturating_sub(*y).div_ceil(*dy)]
        })
        .filter(|pass| !pass.contains(&0))
        .map(|[columns, rows]| (1 + (u64::from(columns) * bits).div_ceil(8)) * u64::from(rows))
        .sum();
    writer.write_chunk(png::chunk::IDAT, &zeros(raw)).unwrap();
    writer.finish().unwrap();
    bytes
}

/// A zlib stream (RFC 1950) of so many zeros.
fn zeros(count: u64) -> Vec<u8> {
    zlib(std::io::repeat(0).take(count))
}

/// A zlib stream of these bytes.
pub fn zlib(mut data: impl Read) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut data, &mut out).unwrap();
    out.finish().unwrap()
}
