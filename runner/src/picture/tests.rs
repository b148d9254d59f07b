#[path = "../../tests/pictures/mod.rs"]
mod pictures;

use super::*;
use image::{DynamicImage, ImageFormat};
use pictures::{flat_png, zlib};
use proptest::prelude::*;
use std::io::Cursor;

/// All pixels, red, green, blue.
fn decode(bytes: &[u8]) -> Result<(Size, Vec<u8>), Refusal> {
    let picture = open(bytes)?;
    let (size, mut pixels) = (picture.size, Vec::new());
    picture.read(|row| pixels.extend_from_slice(row))?;
    Ok((size, pixels))
}

fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

proptest! {
    #[test]
    fn corners_lead_back_to_the_picture(w in 1u32..3000, h in 1u32..3000, stretch: bool) {
        let how = if stretch { Resize::Stretch } else { Resize::Letterbox };
        let (placement, target) = place(Size { width: w, height: h }, Orientation::UPRIGHT, [128, 96], how);
        let corner = [(target.at[0] + target.size[0]) as f32 / 128.0, (target.at[1] + target.size[1]) as f32 / 96.0];
        let back = placement.in_picture(corner);
        prop_assert!((back[0] - w as f32).abs() < 1.0 && (back[1] - h as f32).abs() < 1.0);
    }

    #[test]
    fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400), head in 0usize..3) {
        let head = [&b""[..], b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"][head];
        prop_assert!(decode(&[head, &bytes[..]].concat()).is_err());
    }

    /// The crate `image`, which keeps the whole picture, is the judge.
    #[test]
    fn every_form_gives_the_pixels_that_another_decoder_sees(
        width in 1u32..24, height in 1u32..24, form in 0usize..9, seed: u8,
    ) {
        let noise = |i: u32| (i as u8).wrapping_mul(73).wrapping_add(seed);
        let rgb = image::RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([noise(x), noise(y), noise(x * 3 + y)])
        });
        let plain = DynamicImage::ImageRgb8(rgb);
        let (image, format) = match form {
            0 => (plain, ImageFormat::Png),
            1 => (DynamicImage::ImageRgba8(plain.to_rgba8()), ImageFormat::Png),
            2 => (DynamicImage::ImageLuma8(plain.to_luma8()), ImageFormat::Png),
            3 => (DynamicImage::ImageLumaA8(plain.to_luma_alpha8()), ImageFormat::Png),
            4 => (DynamicImage::ImageRgb16(plain.to_rgb16()), ImageFormat::Png),
            5 => (DynamicImage::ImageLuma16(plain.to_luma16()), ImageFormat::Png),
            6 => (DynamicImage::ImageLumaA16(plain.to_luma_alpha16()), ImageFormat::Png),
            7 => (plain, ImageFormat::Jpeg),
            _ => (DynamicImage::ImageLuma8(plain.to_luma8()), ImageFormat::Jpeg),
        };
        let bytes = written(&image, format);
        let theirs = image::load_from_memory(&bytes).unwrap().into_rgb8();
        let (size, ours) = decode(&bytes).unwrap();
        prop_assert_eq!(size, Size { width, height });
        prop_assert_eq!(ours, theirs.into_raw());
    }
}

#[test]
fn interlaced_and_palette_pictures_are_read() {
    use ::png::{BitDepth::*, ColorType::*};
    for (color, depth) in [
        (Grayscale, One),
        (Grayscale, Eight),
        (Grayscale, Sixteen),
        (Indexed, Two),
        (Rgba, Sixteen),
    ] {
        for interlaced in [false, true] {
            for size in [[1, 1], [3, 2], [17, 9]] {
                let bytes = flat_png(size, color, depth, interlaced);
                let (found, pixels) = decode(&bytes)
                    .unwrap_or_else(|e| panic!("{color:?} {depth:?} {interlaced}: {e:?}"));
                assert_eq!([found.width, found.height], size);
                assert_eq!(pixels.len() as u32, size[0] * size[1] * 3);
                let first = if color == Indexed { [7, 8, 9] } else { [0; 3] };
                assert!(
                    pixels.chunks(3).all(|pixel| pixel == first),
                    "{color:?} {depth:?} {interlaced}"
                );
            }
        }
    }
}

#[test]
fn an_interlaced_picture_has_its_pixels_in_their_places() {
    // Made by hand: 2 × 2, passes 1 (one pixel), 6 (one) and 7 (two).
    let mut bytes = Vec::new();
    let mut info = ::png::Info::with_size(2, 2);
    (info.color_type, info.bit_depth, info.interlaced) =
        (::png::ColorType::Grayscale, ::png::BitDepth::Eight, true);
    let mut writer = ::png::Encoder::with_info(&mut bytes, info).unwrap().write_header().unwrap();
    writer.write_chunk(::png::chunk::IDAT, &zlib(&[0, 10, 0, 20, 0, 30, 40][..])).unwrap();
    writer.finish().unwrap();
    let pixels = decode(&bytes).unwrap().1;
    assert_eq!(pixels.chunks(3).map(|p| p[0]).collect::<Vec<_>>(), [10, 20, 30, 40]);
}

/// The picture of the fault: 98 KB that were 100 million grey pixels.
#[test]
fn a_picture_is_judged_by_its_head() {
    use ::png::{BitDepth::*, ColorType::*};
    let refused = |bytes: &[u8]| open(bytes).err().unwrap();
    let bomb = flat_png([16384, 6143], Grayscale, Eight, false);
    assert!(bomb.len() < 150_000, "{} bytes", bomb.len());
    let refusal = refused(&bomb);
    assert!(refusal.too_large && refusal.text.contains("16384 × 6143"), "{refusal:?}");
    assert!(refused(&flat_png([16385, 1], Grayscale, One, false)).too_large);
    // What is taken needs a few rows, whatever it is called; interlaced it is kept whole.
    let rows = |color, depth| open(&flat_png([16384, 4096], color, depth, false)).unwrap().peak();
    assert!(rows(Grayscale, Eight) < 2 << 20);
    assert!(rows(Rgba, Sixteen) < 2 << 20);
    let whole = open(&flat_png([8192, 8192], Grayscale, Sixteen, true)).unwrap().peak();
    assert!((64 << 20..66 << 20).contains(&whole), "{whole}");
}

/// A TIFF file with the one entry Orientation.
fn exif(value: u16, big: bool) -> Vec<u8> {
    let short = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let long = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let mut bytes = if big { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
    bytes.extend(long(8));
    for n in [1, 0x0112, 3] {
        bytes.extend(short(n));
    }
    bytes.extend(long(1));
    bytes.extend(short(value));
    bytes.extend([0; 6]);
    bytes
}

fn jpeg_with(exif: &[u8], picture: &DynamicImage) -> Vec<u8> {
    let whole = written(picture, ImageFormat::Jpeg);
    let block = [b"Exif\0\0", exif].concat();
    let length = (block.len() as u16 + 2).to_be_bytes();
    [&whole[..2], b"\xff\xe1", &length, &block, &whole[2..]].concat()
}

fn png_with(exif: Vec<u8>, picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut info = ::png::Info::with_size(picture.width(), picture.height());
    (info.color_type, info.exif_metadata) = (::png::ColorType::Rgb, Some(exif.into()));
    let mut writer = ::png::Encoder::with_info(&mut bytes, info).unwrap().write_header().unwrap();
    writer.write_image_data(picture.as_bytes()).unwrap();
    writer.finish().unwrap();
    bytes
}

/// The crate `image` turns the pixels; the pictures differ in nothing else.
#[test]
fn a_picture_of_every_exif_orientation_is_the_upright_one() {
    use image::metadata::Orientation as Theirs;
    let upright = DynamicImage::ImageRgb8(image::RgbImage::from_fn(30, 20, |x, y| {
        image::Rgb([x as u8 * 8, y as u8 * 12, (x * y) as u8 / 3])
    }));
    for (width, height) in [(10, 10), (12, 40)] {
        let text = format!("width = {width}\nheight = {height}\nrange = [0, 255]");
        let preprocessor = Preprocessor::new(&toml::from_str(&text).unwrap());
        let numbers = |bytes: &[u8]| preprocessor.preprocess(open(bytes).unwrap()).unwrap();
        let (expected, placed, _) = numbers(&written(&upright, ImageFormat::Png));
        for value in 1..=8u8 {
            let inverse = match value {
                6 => 8,
                8 => 6,
                other => other,
            };
            let mut stored = upright.clone();
            stored.apply_orientation(Theirs::from_exif(inverse).unwrap());
            for (bytes, off) in [
                (png_with(exif(value.into(), true), &stored), 0.01),
                (jpeg_with(&exif(value.into(), false), &stored), 12.0),
            ] {
                let (found, placement, _) = numbers(&bytes);
                assert_eq!(placement.orientation.value(), value);
                assert_eq!((placement.picture, placement.scale), (placed.picture, placed.scale));
                assert_eq!(placement.offset, placed.offset);
                let most = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
                let most = most.fold(0.0, f32::max);
                assert!(most <= off, "orientation {value}: off by {most}");
            }
        }
    }
}

#[test]
fn an_orientation_that_means_nothing_is_upright() {
    let picture = DynamicImage::ImageRgb8(image::RgbImage::new(3, 2));
    for block in [exif(0, true), exif(9, false), b"MM\0*".to_vec(), vec![]] {
        let bytes = jpeg_with(&block, &picture);
        assert_eq!(open(&bytes).unwrap().orientation, Orientation::UPRIGHT, "{block:?}");
    }
}

#[test]
fn a_picture_that_ends_early_is_never_a_result() {
    use ::png::{BitDepth::*, ColorType::*};
    let noise = |x: u32, y: u32| image::Rgb([(x * 37) as u8, (y * 91) as u8, (x * y * 13) as u8]);
    let picture = DynamicImage::ImageRgb8(image::RgbImage::from_fn(33, 17, noise));
    for whole in [
        written(&picture, ImageFormat::Jpeg),
        written(&DynamicImage::ImageLuma8(picture.to_luma8()), ImageFormat::Jpeg),
        jpeg_with(&exif(6, true), &picture),
        written(&picture, ImageFormat::Png),
        flat_png([17, 9], Grayscale, Eight, true),
    ] {
        assert!(decode(&whole).is_ok());
        for cut in 0..whole.len() {
            let refusal = decode(&whole[..cut]).expect_err("it is cut");
            assert!(!refusal.text.is_empty() && !refusal.too_large, "{cut}: {refusal:?}");
        }
        let text = decode(&whole[..whole.len() - 20]).unwrap_err().text;
        assert!(text.contains("ends early"), "{text}");
        // What some cameras write behind it is not the picture's.
        assert!(decode(&[&whole[..], b"behind the end"].concat()).is_ok());
    }
}

/// Neither the decoders' types nor their opinions are for whoever sent the picture.
#[test]
fn every_damage_is_told_in_plain_words() {
    let noise = |x: u32, y: u32| image::Rgb([(x * 37) as u8, (y * 91) as u8, (x * y * 13) as u8]);
    let picture = DynamicImage::ImageRgb8(image::RgbImage::from_fn(33, 17, noise));
    let mut said = std::collections::BTreeSet::new();
    for whole in [written(&picture, ImageFormat::Jpeg), written(&picture, ImageFormat::Png)] {
        for at in 8..whole.len() {
            for value in [0, 0x7f, 0xff, whole[at] ^ 1, whole[at] ^ 0x20] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                said.extend(decode(&bytes).err().map(|refusal| refusal.text));
            }
        }
    }
    assert!(said.len() >= 3, "{said:?}");
    for text in said {
        let leaked = ["{", "::", "\"", "Error", "Some(", "library", "Reason", "0x", "nvalid"];
        assert!(!leaked.iter().any(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn a_jpeg_is_too_large_by_its_head_as_a_png_is() {
    let mut bytes =
        written(&DynamicImage::ImageLuma8(image::GrayImage::new(8, 8)), ImageFormat::Jpeg);
    let sof = bytes.windows(2).position(|marker| marker == b"\xff\xc0").unwrap();
    bytes[sof + 7..sof + 9].copy_from_slice(&20_000u16.to_be_bytes());
    let refusal = open(&bytes).err().unwrap();
    assert!(refusal.too_large && refusal.text.contains("20000 × 8"), "{refusal:?}");
}

#[test]
fn what_phones_and_people_send_instead_is_named() {
    for (head, word) in [
        (&b"\0\0\0\x18ftypheic\0\0"[..], "HEIC"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"GIF89a", "GIF"),
        (b"--XY\r\nContent-Disposition: form-data", "a form"),
    ] {
        assert!(open(head).err().unwrap().text.contains(word));
    }
    assert_eq!(open(b"garbage").err().unwrap().text, "not a PNG or JPEG picture");
}
