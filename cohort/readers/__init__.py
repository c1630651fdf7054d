"""One file per source of images and labels; each turns it into manifest rows."""
