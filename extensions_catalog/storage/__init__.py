"""Files in Supabase Storage: uploaded and downloaded with signed URLs, each with a row here."""
