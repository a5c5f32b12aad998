"""What the IPTC calls content by how it came about: the words in which files and pages say that a machine made them.

Source: the NewsCodes vocabulary `digitalsourcetype`; the EU AI Act's Article 50 is commonly met with it.
"""

from __future__ import annotations

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
