//! Translation between the kernel's FUSE requests and a volume, nothing else.
