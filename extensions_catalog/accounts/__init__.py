"""Users of Supabase Auth: their access tokens are verified, and each has a profile."""
