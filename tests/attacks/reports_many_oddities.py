"""A cell of hundreds of magics with HTML in them."""

KIND = "reports"
EXERCISE = "03.split_heads"
# It is right; what is odd about it is told in a few lines.
EARNS = 2
CELL = "%magic <script>alert('MALLORY')</script>\n" * 200 + "@RIGHT@\n"
