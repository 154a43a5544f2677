"""The leaderboard: its entries, what is bold in it, facts about its rows, and its formats."""
