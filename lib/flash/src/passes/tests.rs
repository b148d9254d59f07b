use std::fs;
use std::path::PathBuf;

use super::*;
use crate::sample;

struct Card {
    folder: tempfile::TempDir,
    image: Image,
    medium: Medium,
}

/// An image, and a file that stands for a card full of something else.
fn card() -> Card {
    let folder = tempfile::tempdir().unwrap();
    let (image, card) = (folder.path().join("a.img"), folder.path().join("card"));
    fs::write(&image, sample::image().unwrap()).unwrap();
    fs::write(&card, vec![0xFF; sample::SIZE as usize]).unwrap();
    let image = Image::open(&image).unwrap();
    Card { medium: Medium::old_file(&card, image.bytes()).unwrap(), image, folder }
}

impl Card {
    fn path(&self) -> PathBuf {
        self.folder.path().join("card")
    }
}

#[test]
fn a_medium_that_does_not_keep_what_was_written_is_found_out_wherever_it_is() {
    let card = card();
    let patches = Patches::default();
    write(&card.image, &patches, &card.medium, &mut ()).unwrap();
    compare(&card.image, &patches, &card.medium, &mut ()).unwrap();
    let whole = fs::read(card.path()).unwrap();
    assert!(whole == sample::image().unwrap());
    // The first byte and the last, one of the data, and one of the zeros between data.
    let zero = whole.windows(300_000).position(|w| w.iter().all(|b| *b == 0)).unwrap() + 200_000;
    for at in [0, zero, 5_000_000, whole.len() - 1] {
        let mut faulty = whole.clone();
        faulty[at] ^= 0x10;
        fs::write(card.path(), &faulty).unwrap();
        let error = compare(&card.image, &patches, &card.medium, &mut ()).unwrap_err().to_string();
        assert!(error.contains(&format!("first at byte {at};")), "{error}");
    }
}

#[test]
fn what_was_broken_off_looks_empty() {
    // The image loses its end while it is being read, within a window and between two.
    for left in [15 << 20, 16 << 20] {
        let card = card();
        let image = card.folder.path().join("a.img");
        fs::File::options().write(true).open(image).unwrap().set_len(left).unwrap();
        write(&card.image, &Patches::default(), &card.medium, &mut ()).map(drop).unwrap_err();
        let head = &fs::read(card.path()).unwrap()[..1 << 20];
        assert!(head.iter().all(|byte| *byte == 0), "no table before all else is there");
    }
}

#[test]
fn a_difference_is_found_at_its_first_byte() {
    assert_eq!(difference(&[1, 2, 3], Some(&[1, 2, 3])), None);
    assert_eq!(difference(&[1, 2, 3], Some(&[1, 9, 9])), Some(1));
    let mut zeros = vec![0; 10_000];
    assert_eq!(difference(&zeros, None), None);
    zeros[9_999] = 1;
    assert_eq!(difference(&zeros, None), Some(9_999));
    zeros[4_096] = 1;
    assert_eq!(difference(&zeros, None), Some(4_096));
}
