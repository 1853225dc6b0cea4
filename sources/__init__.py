"""What people have, read and prepared: pictures, captions, splits."""
