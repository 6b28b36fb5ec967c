"""The books: money, energy, holds, alarms and users in a SQL database."""
