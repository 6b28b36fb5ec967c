"""What people read: one catalogue of sentences in Chinese and English."""
