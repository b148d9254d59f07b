//! Cuts a square out of a picture and makes it small, to be a golden sample:
//!
//! ```text
//! cargo run -p runner --example golden_sample -- PICTURE LEFT TOP SIDE OUT_SIDE OUT.png
//! ```
//!
//! The demo's is `.cache/tflite/photos/astronaut.png 96 0 256 128 demo/face/golden.png`.

use image::imageops::FilterType;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match cut(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("golden_sample: {error}; usage: PICTURE LEFT TOP SIDE OUT_SIDE OUT.png");
            ExitCode::from(2)
        }
    }
}

fn cut(words: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [picture, left, top, side, out_side, out] = words else {
        return Err("expected six arguments".into());
    };
    let (side, out_side): (u32, u32) = (side.parse()?, out_side.parse()?);
    let picture = image::open(picture)?.into_rgb8();
    let (left, top): (u32, u32) = (left.parse()?, top.parse()?);
    let inside = |at: u32, of: u32| at.checked_add(side).is_some_and(|end| end <= of);
    if side == 0
        || out_side == 0
        || !inside(left, picture.width())
        || !inside(top, picture.height())
    {
        return Err(
            format!("that square is not inside {}x{}", picture.width(), picture.height()).into()
        );
    }
    let square = image::imageops::crop_imm(&picture, left, top, side, side).to_image();
    image::imageops::resize(&square, out_side, out_side, FilterType::Triangle).save(out)?;
    Ok(())
}
