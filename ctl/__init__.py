"""What people type: tortiectl."""
