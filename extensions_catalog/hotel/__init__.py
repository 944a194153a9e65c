"""Rooms, guests and bookings; PostgreSQL keeps a room from being booked twice for a night."""
