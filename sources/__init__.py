"""What people have, or what is drawn for them, read and prepared: raw forms, pictures, captions, splits."""
